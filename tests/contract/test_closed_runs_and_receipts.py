"""Closed runs that other processes can ask for, and the receipts of forgotten runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import Kind, Receipt, Run, RunUsage
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT
from tests.contract.stores import BUDGET_NANOUSD, RECEIPT_DAYS, STORES, TTL_SECONDS, LedgerSteps, new_ledger
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from tests.support.clock import Clock

DAY_SECONDS = 86_400


def receipts_of(ledger: Ledger, since: float = 0.0, limit: int = 100) -> list[Receipt]:
    """The receipts of all pages, in the order of time."""
    receipts: list[Receipt] = []
    cursor: str | None = None
    while True:
        page = ledger.history(since, cursor, limit)
        assert len(page.receipts) <= limit
        receipts += page.receipts
        if page.next_cursor is None:
            return sorted(receipts, key=lambda receipt: (receipt.forgotten_at, receipt.run.run_id))
        cursor = page.next_cursor


# --- closed runs


def test_each_cursor_returns_the_runs_that_were_closed_after_it_in_order(steps: LedgerSteps) -> None:
    ledger = steps.ledger
    before_all = ledger.closed_runs_since(None)
    ledger.close(Run("before", BUDGET_NANOUSD))
    assert ledger.closed_runs_since(before_all.cursor).run_ids == ["before"]
    start = ledger.closed_runs_since(None)
    assert start.run_ids == []
    for run_id in ("a", "b", "a"):
        ledger.close(Run(run_id, BUDGET_NANOUSD))
    first = ledger.closed_runs_since(start.cursor)
    assert first.run_ids == ["a", "b", "a"]
    assert ledger.closed_runs_since(first.cursor).run_ids == []
    ledger.close(Run("c", BUDGET_NANOUSD))
    assert ledger.closed_runs_since(first.cursor).run_ids == ["c"]
    assert ledger.closed_runs_since(start.cursor).run_ids == ["a", "b", "a", "c"], "an old cursor stays valid"


def test_a_caller_that_waits_too_long_gets_the_latest_closed_runs(steps: LedgerSteps) -> None:
    start = steps.ledger.closed_runs_since(None)
    for index in range(CLOSED_RUNS_KEPT + 5):
        steps.ledger.close(Run(f"run-{index}", BUDGET_NANOUSD))
    latest = [f"run-{index}" for index in range(5, CLOSED_RUNS_KEPT + 5)]
    assert steps.ledger.closed_runs_since(start.cursor).run_ids[-CLOSED_RUNS_KEPT:] == latest


# --- receipts


@pytest.fixture(params=[name for name in STORES if name != "memory"])
def steps_with_receipts(request: pytest.FixtureRequest, clock: Clock) -> Iterator[LedgerSteps]:
    with STORES[request.param](clock) as ledger:
        yield LedgerSteps(ledger, clock)


def test_each_time_that_a_run_is_forgotten_it_leaves_a_receipt(steps_with_receipts: LedgerSteps) -> None:
    steps = steps_with_receipts
    steps.spend(30, kind=Kind.INFERENCE)
    steps.spend(4, kind=Kind.EMBEDDING)
    steps.clock.advance(TTL_SECONDS + 1)
    steps.sweep()
    assert steps.ledger.usage("run") is None
    usage = RunUsage("run", BUDGET_NANOUSD, 30, 4, calls=2, idle_seconds=TTL_SECONDS + 1)
    first = Receipt(usage, steps.clock.now)
    assert receipts_of(steps.ledger) == [first]
    steps.spend(2)
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()
    assert receipts_of(steps.ledger)[0] == first
    assert [receipt.run.spent_nanousd for receipt in receipts_of(steps.ledger)] == [34, 2]


def test_pages_of_any_size_contain_every_receipt_once(steps_with_receipts: LedgerSteps) -> None:
    steps = steps_with_receipts
    for index in range(50):
        steps.spend(index, run=f"run-{index:02}")
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()

    def check(limit: int) -> None:
        receipts = receipts_of(steps.ledger, limit=limit)
        found = [(receipt.run.run_id, receipt.run.spent_nanousd) for receipt in receipts]
        assert found == [(f"run-{index:02}", index) for index in range(50)]

    check_rows([1, 7, 50, 100], check)


def test_history_starts_at_a_time(steps_with_receipts: LedgerSteps) -> None:
    steps, times = steps_with_receipts, []
    for index in range(3):
        steps.spend(1, run=f"run-{index}")
        steps.clock.advance(TTL_SECONDS)
        steps.sweep()
        times.append(steps.clock.now)
    counts = [len(receipts_of(steps.ledger, since)) for since in (*times, times[-1] + 1)]
    assert counts == [3, 2, 1, 0]


def test_receipts_are_deleted_after_their_days(steps_with_receipts: LedgerSteps) -> None:
    steps = steps_with_receipts
    for index in range(30):
        steps.spend(1, run=f"run-{index}")
    steps.clock.advance(TTL_SECONDS)
    steps.sweep()
    steps.clock.advance(RECEIPT_DAYS * DAY_SECONDS - 1)
    steps.sweep(limit=7)
    assert len(receipts_of(steps.ledger)) == 30
    steps.clock.advance(1)
    steps.sweep(limit=7)
    assert receipts_of(steps.ledger) == []


def test_memory_keeps_no_receipts() -> None:
    with new_ledger(STORES["memory"]) as steps:
        steps.spend(1)
        steps.clock.advance(TTL_SECONDS)
        steps.sweep()
        assert receipts_of(steps.ledger) == []
