from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Hold, Kind, RunUsage, Sweeper, SweptSlice
from ridges_proxy.ledger.sweeper import SLICE_RUNS
from ridges_proxy.telemetry.metrics import Metrics
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Ledger

SOON_SECONDS = 0.001
INTERVAL_SECONDS = 300.0
PATIENCE_SECONDS = 5.0
NOTHING = SweptSlice([], [], more=False)
RECEIPT = RunUsage(
    "run-1",
    2_000_000_000,
    inference_nanousd=1_500_000_000,
    embedding_nanousd=250_000_000,
    calls=7,
    idle_seconds=1_200,
)
EXPIRED = Hold("h" * 32, "run-2", Kind.INFERENCE, 1_000_000, expires_at=5.0)


class FakeLedger:
    """A ledger whose slices are scripted. After the script, there is nothing left to sweep."""

    def __init__(self, *script: SweptSlice | Exception) -> None:
        self._script = list(script)
        self.limits: list[int] = []
        self.on_slice: Callable[[], object] = lambda: None
        self.stepwise = False
        """Whether each slice waits for `end_slice`."""
        self._started = Event()
        self._continue = Event()

    def sweep(self, limit: int) -> SweptSlice:
        self.limits.append(limit)
        self.on_slice()
        self._started.set()
        if self.stepwise:
            assert self._continue.wait(PATIENCE_SECONDS)
            self._continue.clear()
        result = self._script.pop(0) if self._script else NOTHING
        if isinstance(result, Exception):
            raise result
        return result

    def await_slice(self) -> None:
        """Wait until the next slice has started."""
        self._started.clear()
        assert self._started.wait(PATIENCE_SECONDS)

    def end_slice(self) -> None:
        """Let the current slice end, and wait until the next one has started."""
        self._continue.set()
        self.await_slice()


def sweeper_of(
    ledger: FakeLedger, interval_seconds: float = SOON_SECONDS, clock: Clock | None = None
) -> Sweeper:
    # The fake has only the method that a sweeper calls.
    return Sweeper(cast("Ledger", ledger), interval_seconds, Metrics(), clock or Clock())


class LogLines(logging.Handler):
    """Collects the records of the sweeper's own logger, which may not reach the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self, event: str) -> list[dict[str, object]]:
        standard = logging.makeLogRecord({}).__dict__.keys() | {"message"}
        return [
            {key: value for key, value in record.__dict__.items() if key not in standard}
            for record in self.records
            if record.getMessage() == event
        ]


@pytest.fixture
def lines() -> Iterator[LogLines]:
    logger = logging.getLogger("ridges_proxy.ledger.sweeper")
    handler, level = LogLines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def started() -> Iterator[Callable[[Sweeper], Sweeper]]:
    """Starts sweepers, and kills their greenlets after the test."""
    sweepers: list[Sweeper] = []

    def start(sweeper: Sweeper) -> Sweeper:
        sweepers.append(sweeper)
        sweeper.start()
        return sweeper

    yield start
    for sweeper in sweepers:
        assert sweeper._greenlet is not None
        sweeper._greenlet.kill(timeout=PATIENCE_SECONDS)


# --- the greenlet


def test_a_sweeper_that_was_not_started_does_not_run() -> None:
    state = sweeper_of(FakeLedger()).state()
    assert state == {"running": False, "last_sweep_seconds_ago": None, "last_error": None}


def test_a_started_sweeper_runs_before_its_first_sweep(
    started: Callable[[Sweeper], Sweeper],
) -> None:
    ledger = FakeLedger()
    sweeper = started(sweeper_of(ledger, INTERVAL_SECONDS))
    gevent.sleep(0)
    assert sweeper.state() == {"running": True, "last_sweep_seconds_ago": 0.0, "last_error": None}
    assert ledger.limits == []


def test_a_sweeper_sweeps_at_every_interval(started: Callable[[Sweeper], Sweeper]) -> None:
    ledger = FakeLedger()
    started(sweeper_of(ledger))
    for _ in range(3):
        ledger.await_slice()
    assert len(ledger.limits) >= 3


def test_an_error_does_not_end_the_greenlet_and_the_next_sweep_clears_it(
    started: Callable[[Sweeper], Sweeper], lines: LogLines
) -> None:
    ledger = FakeLedger(LedgerUnavailableError(), ZeroDivisionError("of a run"), NOTHING)
    ledger.stepwise = True
    sweeper = started(sweeper_of(ledger))
    ledger.await_slice()
    errors = [sweeper.state()["last_error"]]
    for _ in range(3):
        ledger.end_slice()
        errors.append(sweeper.state()["last_error"])
        assert sweeper.state()["running"]
    assert errors == [None, "LedgerUnavailableError", "ZeroDivisionError", None]
    assert [line["error"] for line in lines.fields("sweep failed")] == errors[1:3]


def test_a_sweep_that_fails_does_not_count_as_a_sweep(started: Callable[[Sweeper], Sweeper]) -> None:
    clock = Clock()
    ledger = FakeLedger(LedgerUnavailableError())
    ledger.stepwise = True
    sweeper = started(sweeper_of(ledger, clock=clock))
    clock.advance(7.26)
    ledger.await_slice()
    ledger.end_slice()
    assert sweeper.state()["last_sweep_seconds_ago"] == 7.3
    ledger.end_slice()
    assert sweeper.state()["last_sweep_seconds_ago"] == 0.0


def test_a_sweeper_whose_greenlet_was_killed_or_stopped_does_not_run(
    started: Callable[[Sweeper], Sweeper],
) -> None:
    for end in ("kill", "stop"):
        sweeper = started(sweeper_of(FakeLedger(), INTERVAL_SECONDS))
        greenlet = sweeper._greenlet
        assert greenlet is not None
        if end == "kill":
            greenlet.kill()
        else:
            sweeper.stop()
            greenlet.join(PATIENCE_SECONDS)
            assert greenlet.successful()
        assert sweeper.state()["running"] is False


def test_a_sweeper_that_is_two_intervals_and_a_minute_late_counts_as_not_running(
    started: Callable[[Sweeper], Sweeper],
) -> None:
    clock = Clock()
    sweeper = started(sweeper_of(FakeLedger(), INTERVAL_SECONDS, clock))
    clock.advance(2 * INTERVAL_SECONDS + 60)
    assert sweeper.state()["running"] is True
    clock.advance(0.5)
    assert sweeper.state()["running"] is False


# --- one sweep


def test_a_sweep_takes_slices_until_nothing_is_left() -> None:
    ledger = FakeLedger(
        SweptSlice([RECEIPT] * 3, [], more=True),
        SweptSlice([], [EXPIRED], more=True),
        SweptSlice([RECEIPT], [EXPIRED], more=False),
    )
    totals = sweeper_of(ledger).sweep()
    assert (totals.forgotten_runs, totals.overdue_holds) == (4, 2)
    assert ledger.limits == [SLICE_RUNS] * 3


def test_other_greenlets_run_between_two_slices() -> None:
    turns = 0

    def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(count_turns)
    ledger = FakeLedger(*[SweptSlice([RECEIPT], [], more=True)] * 5)
    turns_at_slices: list[int] = []
    ledger.on_slice = lambda: turns_at_slices.append(turns)
    sweeper_of(ledger).sweep()
    other.kill()
    assert turns_at_slices == sorted(set(turns_at_slices))
    assert len(turns_at_slices) == 6


# --- log


def test_receipts_are_logged_as_information_and_expired_holds_as_warnings(lines: LogLines) -> None:
    sweeper_of(FakeLedger(SweptSlice([RECEIPT], [EXPIRED], more=False))).sweep()
    assert lines.fields("receipt") == [
        {
            "run": "run-1",
            "used_cost_usd": 1.75,
            "inference_cost_usd": 1.5,
            "embedding_cost_usd": 0.25,
            "max_cost_usd": 2.0,
            "calls": 7,
        }
    ]
    assert lines.fields("expired hold was charged") == [{"run": "run-2", "hold": "h" * 32, "cost_usd": 0.001}]
    levels = {record.getMessage(): record.levelname for record in lines.records}
    assert levels == {"receipt": "INFO", "expired hold was charged": "WARNING"}
    assert len(lines.records) == 2


def test_a_run_that_the_store_has_lost_is_logged_as_an_error(lines: LogLines) -> None:
    sweeper_of(FakeLedger(SweptSlice([], [], more=False, lost=["run-3"]))).sweep()
    (record,) = lines.records
    assert (record.levelname, lines.fields(record.getMessage())) == ("ERROR", [{"run": "run-3"}])


def test_every_sweep_of_the_greenlet_is_logged_with_its_totals(
    started: Callable[[Sweeper], Sweeper], lines: LogLines
) -> None:
    clock = Clock()
    ledger = FakeLedger(SweptSlice([RECEIPT], [EXPIRED], more=False))
    ledger.on_slice = lambda: clock.advance(0.25)
    started(sweeper_of(ledger, clock=clock))
    ledger.await_slice()
    ledger.await_slice()
    assert lines.fields("sweep finished")[0] == {
        "forgotten_runs": 1,
        "overdue_holds": 1,
        "milliseconds": 250.0,
    }
