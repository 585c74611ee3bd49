"""The single calls that a ledger keeps for a comparison with a bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import CallRecord, Kind, Run, migration
from ridges_proxy.ledger.booked_calls import MAX_CALLS, MemoryCalls
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.ledger.migration import move
from ridges_proxy.ledger.models import BookedCall
from tests.contract.stores import EXPIRY_SECONDS, RECEIPT_DAYS, STORES, LedgerSteps, Reports
from tests.contract.test_migration import MOVES, admin_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import OpenLedger
    from tests.support.clock import Clock

BUDGET_NANOUSD = 1_000_000


@pytest.fixture
def books(open_ledger: OpenLedger, clock: Clock) -> Iterator[LedgerSteps]:
    """A ledger that keeps single calls."""
    with open_ledger(clock, keeps_calls=True) as ledger:
        yield LedgerSteps(ledger, clock)


def spend(steps: LedgerSteps, run_id: str, cost: int, call: CallRecord | None = None) -> None:
    run = Run(run_id, BUDGET_NANOUSD)
    hold = steps.ledger.reserve(run, Kind.INFERENCE, cost, cost, EXPIRY_SECONDS, model="m")
    steps.ledger.settle(hold, cost, call)


def calls_of(ledger: Ledger, since: float = 0.0, limit: int = 1_000) -> list[BookedCall]:
    """All calls, page by page, in the order of their times and costs."""
    found: list[BookedCall] = []
    page = ledger.calls(since, None, limit)
    while True:
        assert len(page.calls) <= limit
        found += page.calls
        if page.next_cursor is None:
            return sorted(found, key=lambda call: (call.settled_at, call.cost_nanousd))
        page = ledger.calls(since, page.next_cursor, limit)


def test_each_charged_call_is_kept_and_no_released_one(books: LedgerSteps) -> None:
    run, ledger = Run("ä|{}: run", BUDGET_NANOUSD), books.ledger
    chat = ledger.reserve(run, Kind.INFERENCE, 100, 1, EXPIRY_SECONDS, model="a/b|ö")
    ledger.settle(chat, 90, CallRecord(7, 5, 'chat-"1"|', "inv\\1"))
    books.clock.advance(0.125)
    embedding = ledger.reserve(run, Kind.EMBEDDING, 50, 1, EXPIRY_SECONDS)
    ledger.settle(embedding, 0)
    ledger.settle(embedding, 40)  # it is resolved already
    lost = ledger.reserve(run, Kind.INFERENCE, 30, 1, EXPIRY_SECONDS, model="m")
    ledger.release(ledger.reserve(run, Kind.INFERENCE, 20, 1, EXPIRY_SECONDS, model="m"))
    settled_at = books.clock.now
    books.clock.advance(EXPIRY_SECONDS)
    books.sweep()

    ids = 'chat-"1"|', "inv\\1"
    assert calls_of(ledger) == [
        BookedCall(settled_at - 0.125, run.id, chat.id, "a/b|ö", Kind.INFERENCE, 7, 5, 90, *ids),
        BookedCall(settled_at, run.id, embedding.id, "", Kind.EMBEDDING),
        BookedCall(books.clock.now, run.id, lost.id, "m", Kind.INFERENCE, cost_nanousd=30),
    ]


def test_pages_of_any_size_contain_every_call_once(books: LedgerSteps) -> None:
    for index in range(40):
        spend(books, f"run-{index % 7}", index)
        books.clock.advance(0.25 * (index % 3 == 0))  # some are of the same moment

    def check(limit: int) -> None:
        assert [call.cost_nanousd for call in calls_of(books.ledger, limit=limit)] == list(range(40))

    check_rows([1, 7, 40, 100], check)


def test_pages_go_on_after_a_sweep_has_dropped_calls_of_earlier_ones(books: LedgerSteps) -> None:
    for index in range(20):
        spend(books, "run", index)
        books.clock.advance(1)
    page = books.ledger.calls(0.0, None, 8)
    books.clock.advance(RECEIPT_DAYS * DAY_SECONDS - 15)
    books.sweep()
    rest = books.ledger.calls(0.0, page.next_cursor, 100).calls
    assert [call.cost_nanousd for call in [*page.calls, *rest]] == list(range(20))


def test_calls_start_at_a_time(books: LedgerSteps) -> None:
    times = []
    for cost in range(3):
        spend(books, "run", cost)
        times.append(books.clock.now)
        books.clock.advance(1)
    found = [
        [call.cost_nanousd for call in calls_of(books.ledger, since)] for since in (*times, times[-1] + 1)
    ]
    assert found == [[0, 1, 2], [1, 2], [2], []]


def test_calls_are_dropped_after_the_days_of_receipts(books: LedgerSteps) -> None:
    for cost in range(30):
        spend(books, f"run-{cost}", cost)
    books.clock.advance(RECEIPT_DAYS * DAY_SECONDS - 1)
    books.sweep(limit=7)
    assert len(calls_of(books.ledger)) == 30
    books.clock.advance(1)
    books.sweep(limit=7)
    assert calls_of(books.ledger) == []


@pytest.mark.parametrize("names", MOVES, ids=" to ".join)
def test_a_move_takes_the_calls_and_continues_after_an_interruption(
    names: tuple[str, str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "BATCH", 2)
    with STORES[names[0]](clock, keeps_calls=True) as source, STORES[names[1]](clock) as target:
        for cost in range(3):
            spend(LedgerSteps(source, clock), f"run {cost}", cost, CallRecord(1, 2, f"a/{cost}", "i"))
            clock.advance(0.125)
        before = calls_of(source)
        admin_of(target).put_calls(before[:1])  # and then it was interrupted
        reports = Reports()
        assert move(admin_of(source), admin_of(target), reports).calls == 3
        assert reports.last["single calls"] == (3, 3)
        assert (calls_of(source), calls_of(target)) == ([], before)


def test_a_ledger_keeps_no_calls_unless_it_is_asked_to(steps: LedgerSteps) -> None:
    spend(steps, "run", 5, CallRecord(1, 1, "a", "i"))
    steps.reserve(1, budget=BUDGET_NANOUSD)
    steps.clock.advance(EXPIRY_SECONDS)
    steps.sweep()
    assert calls_of(steps.ledger) == []


def test_memory_keeps_the_latest_calls() -> None:
    calls = MemoryCalls(10.0, limit=2)
    for cost in range(3):
        calls.add(BookedCall(1.0, "run", "hold", "m", Kind.INFERENCE, cost_nanousd=cost))
    assert [call.cost_nanousd for call in calls.page(0.0, None, 10).calls] == [1, 2]
    assert calls.page(0.0, "1", 1).next_cursor == "2"
    assert MAX_CALLS == 100_000  # docs/operating/ledgers.md
