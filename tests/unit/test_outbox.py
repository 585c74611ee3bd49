from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import (
    CallRecord,
    Hold,
    Kind,
    LevelUsage,
    MemoryLedger,
    ModelCost,
    Outbox,
    Run,
    RunUsage,
    outbox,
)
from ridges_proxy.ledger.sqlite import database
from tests.support.clock import Clock
from tests.support.file_mode import mode_of

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run("run", 1_000)


class FlakyLedger(MemoryLedger):
    """A ledger that answers while `up` is true."""

    def __init__(self) -> None:
        super().__init__(600.0, Clock())
        self.up = True
        self.requests: list[Hold] = []

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        self._check(hold)
        return super().settle(hold, cost_nanousd, call)

    def release(self, hold: Hold) -> RunUsage | None:
        self._check(hold)
        return super().release(hold)

    def _check(self, hold: Hold) -> None:
        self.requests.append(hold)
        if not self.up:
            raise LedgerUnavailableError

    def holds(self, *amounts: int) -> list[Hold]:
        return [self.reserve(RUN, Kind.INFERENCE, amount, amount, 60.0) for amount in amounts]

    def totals(self) -> tuple[int, int, int]:
        """Spent, held and calls of the run."""
        usage = self.usage("run")
        assert usage
        return usage.spent_nanousd, usage.held_nanousd, usage.calls


@pytest.fixture
def ledger() -> FlakyLedger:
    return FlakyLedger()


def test_a_ledger_that_answers_gets_settlements_at_once(ledger: FlakyLedger) -> None:
    box = Outbox(ledger)
    settled, released = ledger.holds(10, 20)
    assert box.resolve(settled, 7) == ledger.usage("run")
    assert box.resolve(released, None)
    assert (ledger.totals(), box.kept()) == ((7, 0, 1), 0)


def test_a_kept_settlement_has_its_model_its_levels_and_its_call(ledger: FlakyLedger, tmp_path: Path) -> None:
    """The file may be read by the next process: the hold and the record must come from it."""
    level = Level("all", "all", "lifetime", 100)
    run = replace(RUN, levels=(level,))
    box = Outbox(ledger, tmp_path / "outbox.db")
    settled, released = (ledger.reserve(run, Kind.INFERENCE, 10, 10, 60.0, model="large") for _ in range(2))
    ledger.up = False
    box.resolve(settled, 7, CallRecord(5, 3, "answer", "invocation"))
    box.resolve(released, None)
    box.disconnect()
    ledger.up = True
    ledger.requests.clear()
    later = Outbox(ledger, tmp_path / "outbox.db")
    later.deliver()
    later.deliver()

    assert ledger.requests == [settled, released]
    assert ledger.levels([level]) == [LevelUsage(level, inference_nanousd=7, calls=1)]
    usage = ledger.usage("run")
    assert usage
    assert usage.detail
    assert usage.detail.costs == (ModelCost("large", Kind.INFERENCE, 1, 5, 3, 7),)


def test_of_two_kept_resolutions_of_a_hold_the_first_counts(ledger: FlakyLedger) -> None:
    box = Outbox(ledger)
    (hold,) = ledger.holds(10)
    ledger.up = False
    box.resolve(hold, 7)
    box.resolve(hold, None)
    assert box.kept() == 1
    ledger.up = True
    box.deliver()
    assert ledger.totals() == (7, 0, 1)


def test_a_hold_that_was_resolved_before_is_logged_and_not_kept(
    ledger: FlakyLedger, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(ledger)
    (hold,) = ledger.holds(10)
    ledger.settle(hold, 10)
    logging.getLogger("ridges_proxy").propagate = True
    assert box.resolve(hold, 7) is None
    assert (ledger.totals(), box.kept()) == ((10, 0, 1), 0)
    assert [record.getMessage() for record in caplog.records] == ["hold was resolved by the sweep"]


def test_a_settlement_is_kept_until_the_ledger_answers_and_its_hold_stays_open(ledger: FlakyLedger) -> None:
    box = Outbox(ledger)
    holds = ledger.holds(10, 20, 30)
    ledger.up = False
    assert [box.resolve(hold, cost) for hold, cost in zip(holds, (7, None, 0), strict=True)] == [None] * 3
    assert (ledger.totals(), box.kept()) == ((0, 60, 0), 3)
    with pytest.raises(LedgerUnavailableError):
        box.deliver()
    assert box.kept() == 3
    ledger.up = True
    ledger.requests.clear()
    box.deliver()
    assert (ledger.totals(), box.kept()) == ((7, 0, 2), 0)
    box.deliver()
    assert ledger.requests == holds, "each is delivered once"


def test_if_the_ledger_fails_again_the_rest_is_kept(ledger: FlakyLedger) -> None:
    box = Outbox(ledger)
    holds = ledger.holds(*[1] * (outbox.DELIVERY_BATCH + 5))
    ledger.up = False
    for hold in holds:
        box.resolve(hold, 1)
    ledger.up = True
    settle, delivered = ledger.settle, 0

    def fail_after_two(hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        nonlocal delivered
        if delivered == 2:
            raise LedgerUnavailableError
        delivered += 1
        return settle(hold, cost_nanousd, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "settle", fail_after_two)
        with pytest.raises(LedgerUnavailableError):
            box.deliver()
    assert box.kept() == len(holds) - 2
    box.deliver()
    assert (ledger.totals(), box.kept()) == ((len(holds), 0, len(holds)), 0)


def test_a_kept_settlement_whose_hold_a_sweep_charged_changes_nothing(ledger: FlakyLedger) -> None:
    box = Outbox(ledger)
    (hold,) = ledger.holds(10)
    ledger.up = False
    box.resolve(hold, 7)
    assert isinstance(ledger._clock, Clock)
    ledger._clock.advance(60)
    ledger.sweep(10)
    ledger.up = True
    box.deliver()
    assert (ledger.totals(), box.kept()) == ((10, 0, 1), 0)


def messages_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


KEPT = ("WARNING", "settlement is kept until the ledger answers")
LOST = ("WARNING", "kept settlement was lost: its hold is gone")
DELIVERED = ("INFO", "kept settlements were delivered")


def test_a_kept_settlement_whose_hold_is_gone_is_logged_as_lost_and_not_as_delivered(
    ledger: FlakyLedger, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level("INFO")
    box = Outbox(ledger)
    gone, released, *open_holds = ledger.holds(10, 20, 30, 40)
    ledger.up = False
    for hold, cost in ((gone, 7), (released, None), *((each, 5) for each in open_holds)):
        box.resolve(hold, cost)
    ledger.up = True
    ledger.settle(gone, 10)
    ledger.release(released)
    box.deliver()
    assert (ledger.totals(), box.kept()) == ((20, 0, 3), 0)
    assert messages_of(caplog) == [KEPT] * 4 + [LOST, LOST, DELIVERED]
    lost = [vars(record) for record in caplog.records if record.getMessage() == LOST[1]]
    assert [(fields["run"], fields["hold"], fields["cost_usd"]) for fields in lost] == [
        ("run", gone.id, 7e-9),
        ("run", released.id, None),
    ]
    assert [vars(record)["settlements"] for record in caplog.records if record.levelname == "INFO"] == [2]


def test_if_all_kept_settlements_are_lost_none_is_logged_as_delivered(
    ledger: FlakyLedger, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level("INFO")
    box = Outbox(ledger)
    (hold,) = ledger.holds(10)
    ledger.up = False
    box.resolve(hold, 7)
    ledger.up = True
    ledger.settle(hold, 10)
    box.deliver()
    box.deliver()
    assert messages_of(caplog) == [KEPT, LOST]


def test_of_two_processes_neither_logs_what_the_other_delivers_as_lost(
    ledger: FlakyLedger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level("INFO")
    path = tmp_path / "outbox.db"
    first, second = Outbox(ledger, path), Outbox(ledger, path)
    (hold,) = ledger.holds(10)
    ledger.up = False
    first.resolve(hold, 7)
    ledger.up = True
    settle = ledger.settle

    def settle_while_the_other_delivers(
        hold: Hold, cost_nanousd: int, call: CallRecord | None = None
    ) -> RunUsage | None:
        usage = settle(hold, cost_nanousd, call)
        ledger.settle = settle  # type: ignore[method-assign] # only for the first call
        second.deliver()  # between the settlement of the first and its deletion
        assert second.kept() == 1
        return usage

    ledger.settle = settle_while_the_other_delivers  # type: ignore[method-assign] # of the first process
    first.deliver()
    second.deliver()
    assert (ledger.totals(), first.kept()) == ((7, 0, 1), 0)
    assert messages_of(caplog) == [KEPT, DELIVERED]


def test_a_settlement_in_a_file_whose_hold_is_gone_is_lost_at_the_second_delivery(
    ledger: FlakyLedger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ridges_proxy").propagate = True
    caplog.set_level("INFO")
    box = Outbox(ledger, tmp_path / "outbox.db")
    gone, open_hold = ledger.holds(10, 20)
    ledger.up = False
    box.resolve(gone, 7)
    box.resolve(open_hold, 5)
    ledger.up = True
    ledger.settle(gone, 10)
    box.deliver()
    assert (box.kept(), ledger.totals()) == (1, (15, 0, 2))
    box.deliver()
    assert (box.kept(), ledger.totals()) == (0, (15, 0, 2))
    assert messages_of(caplog) == [KEPT, KEPT, DELIVERED, LOST]


def test_a_file_keeps_settlements_for_the_next_process(ledger: FlakyLedger, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    settled, released = ledger.holds(10, 20)
    ledger.up = False
    first = Outbox(ledger, path)
    first.resolve(settled, 7)
    first.resolve(released, None)
    ledger.up = True
    second = Outbox(ledger, path)
    assert second.kept() == 2
    second.deliver()
    assert (ledger.totals(), second.kept(), first.kept()) == ((7, 0, 1), 0, 0)
    assert mode_of(path) == 0o600


def test_a_worker_of_the_version_before_keeps_a_settlement_in_a_migrated_file(
    ledger: FlakyLedger, tmp_path: Path
) -> None:
    path = tmp_path / "outbox.db"
    older, newer = ledger.holds(10, 20)
    schema = database.Schema(outbox.SCHEMA.application_id, outbox.SCHEMA.migrations[:1])
    with closing(database.open_file(path, schema)) as connection:
        box = Outbox(ledger, path)
        row = (older.id, "run", "inference", 10, older.expires_at, 7)
        connection.execute("INSERT OR IGNORE INTO settlements VALUES (?, ?, ?, ?, ?, ?)", row)
        ledger.up = False
        box.resolve(newer, 8, CallRecord(1, 2))
        ledger.up = True
        box.deliver()
        assert (ledger.totals(), box.kept()) == ((15, 0, 2), 0)
        assert connection.execute("SELECT * FROM details").fetchall() == []


def test_two_processes_that_deliver_the_same_settlement_charge_it_once(
    ledger: FlakyLedger, tmp_path: Path
) -> None:
    path = tmp_path / "outbox.db"
    (hold,) = ledger.holds(10)
    ledger.up = False
    boxes = [Outbox(ledger, path), Outbox(ledger, path)]
    for box in boxes:
        box.resolve(hold, 7)
    ledger.up = True
    for box in boxes:
        box.deliver()
    assert ledger.totals() == (7, 0, 1)


def test_settlements_above_the_limit_are_lost_and_logged(
    ledger: FlakyLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "MAX_KEPT", 1)
    logging.getLogger("ridges_proxy").propagate = True
    box = Outbox(ledger)
    holds = ledger.holds(10, 20)
    ledger.up = False
    for hold in holds:
        box.resolve(hold, 5)
    assert box.kept() == 1
    kept, lost = caplog.records
    assert (kept.getMessage(), lost.getMessage()) == (
        KEPT[1],
        "settlement was lost: the hold will be charged",
    )
    assert [vars(record)["cost_usd"] for record in (kept, lost)] == [5e-9, 5e-9]
    assert vars(lost)["error"] == "too many settlements are kept"


def test_a_file_that_cannot_be_written_raises_no_error(ledger: FlakyLedger, tmp_path: Path) -> None:
    box = Outbox(ledger, tmp_path / "outbox.db")
    (hold,) = ledger.holds(10)
    box._connection.execute("PRAGMA query_only = 1")
    ledger.up = False
    assert box.resolve(hold, 7) is None
    assert ledger.totals() == (0, 10, 0)
