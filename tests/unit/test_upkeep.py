from __future__ import annotations

from typing import TYPE_CHECKING, cast

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls import background as upkeep_module
from ridges_proxy.calls.admission import END_POLL_SECONDS, Admission
from ridges_proxy.calls.background import BackgroundTasks
from ridges_proxy.calls.close_run import close_run
from ridges_proxy.errors import LedgerUnavailableError, RunClosedError
from ridges_proxy.ledger import Kind, MemoryLedger, Outbox, Run
from ridges_proxy.ledger.models import ClosedRuns
from tests.support.clock import Clock
from tests.support.shop import PatientClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.calls.admission import InFlightCall

RUN = Run("run", 1_000)
PATIENCE_SECONDS = 5.0


class Worker:
    """One of several on the same ledger: its own admission, its own upkeep."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.admission = Admission(9)
        self.outbox = Outbox(ledger)
        self.background = BackgroundTasks(ledger, self.outbox, self.admission, self.publish)
        self.published = 0
        self.background.once()

    def publish(self) -> None:
        """As its gauges do."""
        self.published += 1

    def call(self, run: Run = RUN) -> gevent.Greenlet[[], str]:
        """A call in flight that waits for an upstream that never answers; what ended it."""
        waits = Event()

        def make() -> str:
            with self.admission.enter(run.id) as flight:
                hold = self.ledger.reserve(run, Kind.INFERENCE, 10, 10, 60.0)
                try:
                    self._wait(flight, waits)
                except RunClosedError:
                    self.outbox.resolve(hold, 4)
                    return "closed"
                return "answered"

        greenlet = gevent.spawn(make)
        assert waits.wait(PATIENCE_SECONDS)
        return greenlet

    def _wait(self, flight: InFlightCall, waits: Event) -> None:
        with flight.waiting(PATIENCE_SECONDS, PatientClient()):
            waits.set()
            Event().wait(PATIENCE_SECONDS)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(600.0, Clock())


def test_a_run_that_one_worker_closes_ends_at_the_others_by_their_upkeep(ledger: MemoryLedger) -> None:
    here, there = Worker(ledger), Worker(ledger)
    mine, theirs, unrelated = here.call(), there.call(), there.call(Run("another", 1_000))
    closing = gevent.spawn(close_run, ledger, here.admission, RUN)
    assert mine.get(timeout=PATIENCE_SECONDS) == "closed"
    gevent.sleep(10 * END_POLL_SECONDS)  # time enough to be over, if it did not wait for the other worker
    assert not theirs.dead
    assert not closing.dead
    there.background.once()
    assert theirs.get(timeout=PATIENCE_SECONDS) == "closed"
    receipt = closing.get(timeout=PATIENCE_SECONDS)
    assert (receipt.closed, receipt.in_flight, receipt.spent_nanousd) == (True, 0, 8)
    assert not unrelated.dead
    unrelated.kill()


def test_closing_waits_no_longer_than_its_limit_for_a_worker_that_is_dead(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridges_proxy.calls.close_run.OTHERS_SECONDS", 0.05)
    ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0)
    receipt = close_run(ledger, Admission(9), RUN)
    assert (receipt.closed, receipt.in_flight) == (True, 1)


def test_upkeep_delivers_what_is_kept_and_looks_after_the_ledger(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(ledger)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "settle", fail)
        worker.outbox.resolve(hold, 6)
    looked_after: list[None] = []
    monkeypatch.setattr(ledger, "maintain", lambda: looked_after.append(None))
    worker.background.once()
    books = ledger.usage("run")
    assert books
    assert (books.spent_nanousd, worker.outbox.kept(), len(looked_after)) == (6, 0, 1)


def fail(*_: object) -> None:
    raise LedgerUnavailableError


@pytest.mark.parametrize("error", [LedgerUnavailableError, ZeroDivisionError])
def test_upkeep_goes_on_whatever_the_ledger_raises(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(upkeep_module, "INTERVAL_SECONDS", 0.0)
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


@pytest.mark.parametrize("error", [LedgerUnavailableError, OSError])
@pytest.mark.parametrize("failing", ["chore", "closed_runs_since", "maintain", "deliver"])
def test_a_duty_that_fails_keeps_no_other_from_being_done(
    ledger: MemoryLedger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
    failing: str,
) -> None:
    done: list[str] = []

    def duty(name: str) -> Callable[..., object]:
        def do(*arguments: object) -> object:
            if name == failing:
                raise error
            done.append(name)
            return ClosedRuns([], "") if arguments else None

        return do

    outbox = Outbox(ledger)
    background = BackgroundTasks(ledger, outbox, Admission(9), lambda: cast("None", duty("chore")()))
    monkeypatch.setattr(outbox, "deliver", duty("deliver"))
    for name in ("closed_runs_since", "maintain"):
        monkeypatch.setattr(ledger, name, duty(name))

    background.once()

    assert {*done, failing} == {"chore", "closed_runs_since", "maintain", "deliver"}
    assert len(done) == 3
    said = "upkeep failed" if error is OSError else "no upkeep: the ledger is unavailable"
    assert [record.message for record in caplog.records] == [said]
