from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Hold, Kind, RunQuery, RunUsage
from tests.contract.stores import CAP_NANOUSD, EXPIRY_SECONDS, TTL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.stores import Till
    from tests.support.clock import Clock

    Act = Callable[[Till, Hold], object]


def refuse(till: Till) -> None:
    with suppress(BudgetExhaustedError):
        till.reserve(CAP_NANOUSD + 1)


ACTIVITIES: dict[str, Act] = {
    "reserve and release": lambda till, _: till.ledger.release(till.reserve(1)),
    "a refusal": lambda till, _: refuse(till),
    "settle": lambda till, hold: till.ledger.settle(hold, 10),
    "release": lambda till, hold: till.ledger.release(hold),
    "reset": lambda till, _: till.ledger.reset("run"),
}
READINGS: dict[str, Act] = {
    "usage": lambda till, _: till.ledger.usage("run"),
    "list": lambda till, _: till.ledger.list(RunQuery()),
    "sweep": lambda till, _: till.sweep(),
    "ping": lambda till, _: till.ledger.ping(),
}


# --- holds that nobody settles


@pytest.mark.parametrize("kind", list(Kind))
def test_an_overdue_hold_becomes_spend_at_the_hold(till: Till, clock: Clock, kind: Kind) -> None:
    hold = till.reserve(400, kind=kind)
    clock.advance(EXPIRY_SECONDS)
    assert till.sweep().overdue == [hold]
    books = till.ledger.usage("run")
    assert books
    by_kind = {Kind.INFERENCE: books.inference_nanousd, Kind.EMBEDDING: books.embedding_nanousd}
    assert (by_kind[kind], books.spent_nanousd) == (400, 400)
    assert (books.calls, books.held_nanousd, books.in_flight) == (1, 0, 0)


def test_a_hold_is_not_overdue_before_its_time(till: Till, clock: Clock) -> None:
    hold = till.reserve(400)
    clock.advance(EXPIRY_SECONDS - 0.125)
    assert till.sweep().overdue == []
    assert till.ledger.settle(hold, 1) == RunUsage("run", CAP_NANOUSD, inference_nanousd=1, calls=1)


def test_each_hold_has_a_time_of_its_own(till: Till, clock: Clock) -> None:
    late = till.reserve(1, expiry=10)
    early = till.reserve(2, expiry=5)
    clock.advance(5)
    assert till.sweep().overdue == [early]
    clock.advance(5)
    assert till.sweep().overdue == [late]


def test_settling_or_releasing_after_the_sweep_charged_the_hold_changes_nothing(
    till: Till, clock: Clock
) -> None:
    hold = till.reserve(400)
    clock.advance(EXPIRY_SECONDS)
    till.sweep()
    after_sweep = till.ledger.usage("run")
    assert till.ledger.settle(hold, 1) is None
    assert till.ledger.release(hold) is None
    assert till.ledger.usage("run") == after_sweep
    assert till.sweep().overdue == []


def test_a_call_that_settles_past_its_time_but_before_the_sweep_settles_as_ever(
    till: Till, clock: Clock
) -> None:
    hold = till.reserve(400)
    clock.advance(EXPIRY_SECONDS + 100)
    assert till.ledger.settle(hold, 1)
    assert till.sweep().overdue == []


def test_more_overdue_holds_than_one_slice_takes_become_spend_over_the_next(till: Till, clock: Clock) -> None:
    holds = [till.reserve(10, run=f"run-{index % 3}") for index in range(10)]
    clock.advance(EXPIRY_SECONDS)
    first = till.ledger.sweep(4)
    assert (len(first.overdue), first.more) == (4, True)
    found = first.overdue + till.sweep(4).overdue
    assert sorted(hold.id for hold in found) == sorted(hold.id for hold in holds)
    assert sum(books.spent_nanousd for books in till.ledger.list(RunQuery()).runs) == 100


def test_the_run_of_an_overdue_hold_is_kept_for_its_ttl_from_then(till: Till, clock: Clock) -> None:
    till.reserve(400)
    clock.advance(EXPIRY_SECONDS + TTL_SECONDS)
    assert till.sweep().receipts == []
    clock.advance(TTL_SECONDS)
    (receipt,) = till.sweep().receipts
    assert receipt.spent_nanousd == 400


# --- runs that are forgotten


@pytest.mark.parametrize("act", ACTIVITIES.values(), ids=ACTIVITIES.keys())
def test_a_run_is_forgotten_its_ttl_after_its_last_activity_and_no_sooner(
    till: Till, clock: Clock, act: Act
) -> None:
    hold = till.reserve(10, expiry=10 * TTL_SECONDS)
    clock.advance(TTL_SECONDS - 1)
    act(till, hold)
    till.ledger.release(hold)
    clock.advance(TTL_SECONDS - 0.125)
    assert till.sweep().receipts == []
    clock.advance(0.125)
    assert len(till.sweep().receipts) == 1
    assert till.ledger.usage("run") is None


@pytest.mark.parametrize("act", READINGS.values(), ids=READINGS.keys())
def test_looking_at_a_run_does_not_keep_it(till: Till, clock: Clock, act: Act) -> None:
    hold = till.reserve(10)
    till.ledger.settle(hold, 10)
    clock.advance(TTL_SECONDS - 1)
    act(till, hold)
    clock.advance(1)
    assert len(till.sweep().receipts) == 1


def test_a_run_with_a_call_in_flight_is_never_forgotten(till: Till, clock: Clock) -> None:
    hold = till.reserve(10, expiry=10 * TTL_SECONDS)
    for _ in range(9):
        clock.advance(TTL_SECONDS)
        assert till.sweep().receipts == []
    assert till.ledger.settle(hold, 3)
    clock.advance(TTL_SECONDS - 0.125)
    assert till.sweep().receipts == []
    clock.advance(0.125)
    assert len(till.sweep().receipts) == 1


def test_a_hold_of_nothing_is_a_call_in_flight_too(till: Till, clock: Clock) -> None:
    till.reserve(0, expiry=10 * TTL_SECONDS)
    clock.advance(TTL_SECONDS)
    assert till.sweep().receipts == []


def test_a_run_in_flight_does_not_hide_idle_ones_from_the_sweep(till: Till, clock: Clock) -> None:
    till.reserve(1, run="busy", expiry=10 * TTL_SECONDS)
    for index in range(5):
        till.spend(index, run=f"idle-{index}")
    clock.advance(TTL_SECONDS)
    assert len(till.sweep(limit=1).receipts) == 5
    assert till.ledger.list(RunQuery()).total == 1


def test_a_forgotten_run_leaves_a_receipt_with_its_last_books(till: Till, clock: Clock) -> None:
    till.spend(100, kind=Kind.INFERENCE)
    till.spend(20, kind=Kind.EMBEDDING)
    till.ledger.release(till.reserve(5))
    clock.advance(TTL_SECONDS + 5)
    assert till.sweep().receipts == [
        RunUsage(
            "run",
            CAP_NANOUSD,
            inference_nanousd=100,
            embedding_nanousd=20,
            calls=2,
            idle_seconds=TTL_SECONDS + 5,
        )
    ]


def test_every_forgotten_run_leaves_one_receipt_over_however_many_slices(till: Till, clock: Clock) -> None:
    for index in range(25):
        till.spend(index, run=f"old-{index}")
    clock.advance(TTL_SECONDS / 2)
    for index in range(5):
        till.spend(index, run=f"young-{index}")
    clock.advance(TTL_SECONDS / 2)
    first = till.ledger.sweep(10)
    assert (len(first.receipts), first.more) == (10, True)
    receipts = first.receipts + till.sweep(10).receipts
    assert sorted(receipt.run_id for receipt in receipts) == sorted(f"old-{index}" for index in range(25))
    assert sum(receipt.spent_nanousd for receipt in receipts) == sum(range(25))
    assert till.ledger.list(RunQuery(search="old")).total == 0
    assert till.ledger.list(RunQuery(search="young")).total == 5


def test_a_forgotten_run_that_comes_back_begins_with_empty_books(till: Till, clock: Clock) -> None:
    till.spend(CAP_NANOUSD)
    clock.advance(TTL_SECONDS)
    till.sweep()
    till.reserve(CAP_NANOUSD)
    assert till.ledger.usage("run") == RunUsage("run", CAP_NANOUSD, held_nanousd=CAP_NANOUSD, in_flight=1)


def test_a_sweep_of_empty_books_has_nothing_to_do(till: Till) -> None:
    swept = till.ledger.sweep(10)
    assert (swept.receipts, swept.overdue, swept.more) == ([], [], False)
