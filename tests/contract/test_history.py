"""Closings that other processes hear of, and receipts that stay when a run is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import Kind, Receipt, Run, RunUsage
from ridges_proxy.ledger.interface import CLOSED_RUNS_KEPT
from tests.contract.stores import CAP_NANOUSD, RECEIPT_DAYS, STORES, TTL_SECONDS, Till

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from tests.support.clock import Clock

DAY_SECONDS = 86_400


def receipts_of(ledger: Ledger, since: float = 0.0, page: int = 100) -> list[Receipt]:
    """All pages, in the order of time."""
    found: list[Receipt] = []
    cursor: str | None = None
    while True:
        got = ledger.history(since, cursor, page)
        assert len(got.receipts) <= page
        found += got.receipts
        if got.next_cursor is None:
            return sorted(found, key=lambda receipt: (receipt.forgotten_at, receipt.run.run_id))
        cursor = got.next_cursor


# --- closings


def test_closings_are_told_once_in_order_to_whoever_goes_on_from_a_mark(till: Till) -> None:
    ledger = till.ledger
    ledger.close(Run("before", CAP_NANOUSD))
    start = ledger.closed_runs_since(None)
    assert start.run_ids == []
    for run_id in ("a", "b", "a"):
        ledger.close(Run(run_id, CAP_NANOUSD))
    first = ledger.closed_runs_since(start.cursor)
    assert first.run_ids == ["a", "b", "a"]
    assert ledger.closed_runs_since(first.cursor).run_ids == []
    ledger.close(Run("c", CAP_NANOUSD))
    assert ledger.closed_runs_since(first.cursor).run_ids == ["c"]
    assert ledger.closed_runs_since(start.cursor).run_ids == ["a", "b", "a", "c"], (
        "each has a mark of its own"
    )


def test_closings_of_books_where_nothing_was_closed_begin_with_the_first(till: Till) -> None:
    start = till.ledger.closed_runs_since(None)
    till.ledger.close(Run("a", CAP_NANOUSD))
    assert till.ledger.closed_runs_since(start.cursor).run_ids == ["a"]


def test_who_stays_away_for_long_hears_of_the_latest_closings(till: Till) -> None:
    start = till.ledger.closed_runs_since(None)
    for index in range(CLOSED_RUNS_KEPT + 5):
        till.ledger.close(Run(f"run-{index}", CAP_NANOUSD))
    latest = [f"run-{index}" for index in range(5, CLOSED_RUNS_KEPT + 5)]
    assert till.ledger.closed_runs_since(start.cursor).run_ids[-CLOSED_RUNS_KEPT:] == latest


# --- receipts


@pytest.fixture(params=[name for name in STORES if name != "memory"])
def ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Ledger]:
    """The stores that keep receipts."""
    with STORES[request.param](clock) as opened:
        yield opened


def test_a_forgotten_run_leaves_a_receipt_that_stays(ledger: Ledger, clock: Clock) -> None:
    till = Till(ledger)
    till.spend(30, kind=Kind.INFERENCE)
    till.spend(4, kind=Kind.EMBEDDING)
    ledger.close(Run("run", CAP_NANOUSD))
    clock.advance(TTL_SECONDS + 1)
    till.sweep()
    assert ledger.usage("run") is None
    books = RunUsage("run", CAP_NANOUSD, 30, 4, calls=2, idle_seconds=TTL_SECONDS + 1, closed=True)
    assert receipts_of(ledger) == [Receipt(books, clock.now)]


def test_a_run_that_lives_twice_leaves_two_receipts(ledger: Ledger, clock: Clock) -> None:
    till = Till(ledger)
    for cost in (1, 2):
        till.spend(cost)
        clock.advance(TTL_SECONDS)
        till.sweep()
    assert [receipt.run.spent_nanousd for receipt in receipts_of(ledger)] == [1, 2]


@pytest.mark.parametrize("page", [1, 7, 50, 100])
def test_pages_of_any_size_tell_every_receipt_once(ledger: Ledger, clock: Clock, page: int) -> None:
    till = Till(ledger)
    for index in range(50):
        till.spend(index, run=f"run-{index:02}")
    clock.advance(TTL_SECONDS)
    till.sweep()
    found = receipts_of(ledger, page=page)
    assert [(r.run.run_id, r.run.spent_nanousd) for r in found] == [(f"run-{n:02}", n) for n in range(50)]


def test_receipts_are_told_since_a_time(ledger: Ledger, clock: Clock) -> None:
    till = Till(ledger)
    times = []
    for index in range(3):
        till.spend(1, run=f"run-{index}")
        clock.advance(TTL_SECONDS)
        till.sweep()
        times.append(clock.now)
    assert [len(receipts_of(ledger, since)) for since in (*times, times[-1] + 1)] == [3, 2, 1, 0]


def test_receipts_are_dropped_after_their_days_and_no_sooner(ledger: Ledger, clock: Clock) -> None:
    till = Till(ledger)
    for index in range(30):
        till.spend(1, run=f"run-{index}")
    clock.advance(TTL_SECONDS)
    till.sweep()
    clock.advance(RECEIPT_DAYS * DAY_SECONDS - 1)
    till.sweep(limit=7)
    assert len(receipts_of(ledger)) == 30
    clock.advance(1)
    till.sweep(limit=7)
    assert receipts_of(ledger) == []


def test_memory_keeps_no_receipts(clock: Clock) -> None:
    with STORES["memory"](clock) as ledger:
        till = Till(ledger)
        till.spend(1)
        clock.advance(TTL_SECONDS)
        till.sweep()
        assert receipts_of(ledger) == []
