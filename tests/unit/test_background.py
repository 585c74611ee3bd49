"""The background tasks of a worker, and how a run is closed in all workers."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, cast

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls import background as background_module
from ridges_proxy.calls.admission import Admission
from ridges_proxy.calls.background import BackgroundTasks
from ridges_proxy.calls.close_run import close_run
from ridges_proxy.calls.in_flight import END_POLL_SECONDS
from ridges_proxy.errors import LedgerUnavailableError, RunClosedError
from ridges_proxy.ledger import Kind, MemoryLedger, Outbox, Run
from ridges_proxy.ledger.models import ClosedRuns
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.upstream import ChutesClient
from ridges_proxy.web.app import create_app
from tests.support.app import settings_of
from tests.support.call_fixture import PatientClient
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.calls.in_flight import InFlightCall

RUN = Run("run", 1_000)
PATIENCE_SECONDS = 5.0


class Worker:
    """One of several workers with the same ledger: with its own admission and background tasks."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.admission = Admission(9)
        self.outbox = Outbox(ledger)
        self.background = BackgroundTasks(ledger, self.outbox, self.admission, self.publish)
        self.published = 0
        self.background.once()

    def publish(self) -> None:
        """Count the rounds, in place of the gauges."""
        self.published += 1

    def call(self, run: Run = RUN) -> gevent.Greenlet[[], str]:
        """Start a call that waits for an upstream that never answers. Returns its greenlet."""
        waits = Event()

        def make() -> str:
            with self.admission.enter(run.id) as in_flight:
                hold = self.ledger.reserve(run, Kind.INFERENCE, 10, 10, 60.0)
                try:
                    self._wait(in_flight, waits)
                except RunClosedError:
                    self.outbox.resolve(hold, 4)
                    return "closed"
                return "answered"

        greenlet = gevent.spawn(make)
        assert waits.wait(PATIENCE_SECONDS)
        return greenlet

    def _wait(self, in_flight: InFlightCall, waits: Event) -> None:
        with in_flight.waiting(PATIENCE_SECONDS, PatientClient()):
            waits.set()
            Event().wait(PATIENCE_SECONDS)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(600.0, Clock())


def test_calls_of_a_closed_run_end_in_the_other_workers_by_their_background_tasks(
    ledger: MemoryLedger,
) -> None:
    here, there = Worker(ledger), Worker(ledger)
    mine, theirs, unrelated = here.call(), there.call(), there.call(Run("another", 1_000))
    closing = gevent.spawn(close_run, ledger, here.admission, RUN)
    assert mine.get(timeout=PATIENCE_SECONDS) == "closed"
    gevent.sleep(10 * END_POLL_SECONDS)  # long enough to return, if it did not wait for the other worker
    assert not theirs.dead
    assert not closing.dead
    there.background.once()
    assert theirs.get(timeout=PATIENCE_SECONDS) == "closed"
    receipt = closing.get(timeout=PATIENCE_SECONDS)
    assert (receipt.closed, receipt.in_flight, receipt.spent_nanousd) == (True, 0, 8)
    assert not unrelated.dead
    unrelated.kill()


def test_closing_a_run_waits_only_a_limited_time_for_a_dead_worker(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridges_proxy.calls.close_run.OTHER_WORKERS_SECONDS", 0.05)
    ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0)
    receipt = close_run(ledger, Admission(9), RUN)
    assert (receipt.closed, receipt.in_flight) == (True, 1)


def test_background_tasks_deliver_the_outbox_and_maintain_the_ledger(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(ledger)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "settle", fail)
        worker.outbox.resolve(hold, 6)
    maintained: list[None] = []
    monkeypatch.setattr(ledger, "maintain", lambda: maintained.append(None))
    worker.background.once()
    usage = ledger.usage("run")
    assert usage
    assert (usage.spent_nanousd, worker.outbox.kept(), len(maintained)) == (6, 0, 1)


def fail(*_: object) -> None:
    raise LedgerUnavailableError


@pytest.mark.parametrize("error", [LedgerUnavailableError, ZeroDivisionError])
def test_the_loop_continues_after_any_error(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(background_module, "INTERVAL_SECONDS", 0.0)
    rounds, done = [0], Event()

    def raise_at_first() -> None:
        rounds[0] += 1
        if rounds[0] < 3:
            raise error
        done.set()

    background = Worker(ledger).background
    monkeypatch.setattr(ledger, "maintain", raise_at_first)
    greenlet = gevent.spawn(background._loop)
    assert done.wait(PATIENCE_SECONDS)
    greenlet.kill()


def test_a_task_that_fails_does_not_prevent_the_others(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["further task", "closed_runs_since", "maintain", "deliver"]
    events = {
        LedgerUnavailableError: "background tasks failed: the ledger is unavailable",
        OSError: "background task failed",
    }

    def check(row: tuple[str, type[Exception]]) -> None:
        failing, error = row
        done: list[str] = []

        def task(name: str) -> Callable[..., object]:
            def run(*arguments: object) -> object:
                if name == failing:
                    raise error
                done.append(name)
                return ClosedRuns([], "") if arguments else None

            return run

        caplog.clear()
        outbox = Outbox(ledger)
        background = BackgroundTasks(
            ledger, outbox, Admission(9), lambda: cast("None", task("further task")())
        )
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "deliver", task("deliver"))
            for name in ("closed_runs_since", "maintain"):
                patch.setattr(ledger, name, task(name))
            background.once()

        assert {*done, failing} == set(names)
        assert len(done) == 3
        assert [record.message for record in caplog.records] == [events[error]]

    check_rows(list(product(names, events)), check)


def test_connections_that_no_call_uses_are_closed_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(ChutesClient, "close_idle", lambda _: closed.append("idle"))

    create_app(settings_of()).extensions[EXTENSION].background.once()

    assert closed == ["idle"]
