"""Expired holds are charged, and idle runs are forgotten."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Hold, Kind, RunQuery, RunUsage
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS, TTL_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]
    Step = Callable[[LedgerSteps, Hold], object]


def refuse(steps: LedgerSteps) -> None:
    with suppress(BudgetExhaustedError):
        steps.reserve(BUDGET_NANOUSD + 1)


ACTIVITIES: dict[str, Step] = {
    "reserve and release": lambda steps, _: steps.ledger.release(steps.reserve(1)),
    "a refusal": lambda steps, _: refuse(steps),
    "settle": lambda steps, hold: steps.ledger.settle(hold, 10),
    "release": lambda steps, hold: steps.ledger.release(hold),
    "reset": lambda steps, _: steps.ledger.reset("run"),
}
QUERIES: dict[str, Step] = {
    "usage": lambda steps, _: steps.ledger.usage("run"),
    "list": lambda steps, _: steps.ledger.list(RunQuery()),
    "sweep": lambda steps, _: steps.sweep(),
    "ping": lambda steps, _: steps.ledger.ping(),
}


# --- expired holds


def test_an_expired_hold_is_charged_in_full_once(new_steps: NewSteps) -> None:
    def check(kind: Kind) -> None:
        with new_steps() as steps:
            hold = steps.reserve(400, kind=kind)
            steps.clock.advance(EXPIRY_SECONDS)
            assert steps.sweep().expired == [hold]
            usage = steps.usage()
            by_kind = {Kind.INFERENCE: usage.inference_nanousd, Kind.EMBEDDING: usage.embedding_nanousd}
            assert (by_kind[kind], usage.spent_nanousd) == (400, 400)
            assert (usage.calls, usage.held_nanousd, usage.in_flight) == (1, 0, 0)
            assert steps.ledger.settle(hold, 1) is None
            assert steps.ledger.release(hold) is None
            assert steps.usage() == usage
            assert steps.sweep().expired == []

    check_rows(Kind, check)


def test_each_hold_expires_at_its_own_time_and_not_before(steps: LedgerSteps) -> None:
    settled = steps.reserve(400)
    late = steps.reserve(1, run="other", expiry=10)
    early = steps.reserve(2, run="other", expiry=5)
    steps.clock.advance(4.875)
    assert steps.sweep().expired == []
    steps.clock.advance(0.125)
    assert steps.sweep().expired == [early]
    steps.clock.advance(5)
    assert steps.sweep().expired == [late]
    steps.clock.advance(EXPIRY_SECONDS - 10.125)
    assert steps.sweep().expired == []
    assert steps.ledger.settle(settled, 1) == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=1, calls=1)


def test_an_expired_hold_can_be_settled_until_the_sweep_charges_it(steps: LedgerSteps) -> None:
    hold = steps.reserve(400)
    steps.clock.advance(EXPIRY_SECONDS + 100)
    assert steps.ledger.settle(hold, 1)
    assert steps.sweep().expired == []


def test_more_expired_holds_than_the_limit_are_charged_in_the_next_slices(steps: LedgerSteps) -> None:
    holds = [steps.reserve(10, run=f"run-{index % 3}") for index in range(10)]
    steps.clock.advance(EXPIRY_SECONDS)
    first = steps.ledger.sweep(4)
    assert (len(first.expired), first.more) == (4, True)
    found = first.expired + steps.sweep(4).expired
    assert sorted(hold.id for hold in found) == sorted(hold.id for hold in holds)
    assert sum(usage.spent_nanousd for usage in steps.ledger.list(RunQuery()).runs) == 100


def test_a_hold_that_was_resolved_takes_no_place_in_a_slice(steps: LedgerSteps) -> None:
    steps.ledger.release(steps.reserve(10, expiry=1))
    expired = steps.reserve(10, expiry=2)
    steps.clock.advance(2)
    assert steps.sweep(1).expired == [expired]


def test_the_charge_of_an_expired_hold_is_activity_of_its_run(steps: LedgerSteps) -> None:
    steps.reserve(400)
    steps.clock.advance(EXPIRY_SECONDS + TTL_SECONDS)
    assert steps.sweep().receipts == []
    steps.clock.advance(TTL_SECONDS)
    (receipt,) = steps.sweep().receipts
    assert receipt.spent_nanousd == 400


# --- idle runs


def test_a_run_is_forgotten_its_ttl_after_its_last_activity(new_steps: NewSteps) -> None:
    def check(name: str) -> None:
        with new_steps() as steps:
            hold = steps.reserve(10, expiry=10 * TTL_SECONDS)
            steps.clock.advance(TTL_SECONDS - 1)
            ACTIVITIES[name](steps, hold)
            steps.ledger.release(hold)
            steps.clock.advance(TTL_SECONDS - 0.125)
            assert steps.sweep().receipts == []
            steps.clock.advance(0.125)
            assert len(steps.sweep().receipts) == 1
            assert steps.ledger.count() == 0

    check_rows(ACTIVITIES, check)


def test_a_query_is_no_activity(new_steps: NewSteps) -> None:
    def check(name: str) -> None:
        with new_steps() as steps:
            hold = steps.reserve(10)
            steps.ledger.settle(hold, 10)
            steps.clock.advance(TTL_SECONDS - 1)
            QUERIES[name](steps, hold)
            steps.clock.advance(1)
            assert len(steps.sweep().receipts) == 1

    check_rows(QUERIES, check)


def test_a_run_with_an_open_hold_is_not_forgotten(new_steps: NewSteps) -> None:
    """Also if the hold is 0. For the sweep, an open hold is activity."""

    def check(amount: int) -> None:
        with new_steps() as steps:
            hold = steps.reserve(amount, expiry=10 * TTL_SECONDS)
            for _ in range(9):
                steps.clock.advance(TTL_SECONDS)
                assert steps.sweep().receipts == []
                assert steps.usage().idle_seconds == 0
            assert steps.ledger.settle(hold, 3)
            steps.clock.advance(TTL_SECONDS - 0.125)
            assert steps.sweep().receipts == []
            steps.clock.advance(0.125)
            assert len(steps.sweep().receipts) == 1

    check_rows([10, 0], check)


def test_a_run_in_flight_does_not_hide_idle_runs_from_the_sweep(steps: LedgerSteps) -> None:
    steps.reserve(1, run="busy", expiry=10 * TTL_SECONDS)
    for index in range(5):
        steps.spend(index, run=f"idle-{index}")
    steps.clock.advance(TTL_SECONDS)
    assert len(steps.sweep(limit=1).receipts) == 5
    assert steps.ledger.list(RunQuery()).total == 1


def test_a_forgotten_run_leaves_its_usage_and_returns_with_nothing_spent(steps: LedgerSteps) -> None:
    steps.spend(900, kind=Kind.INFERENCE)
    steps.spend(99, kind=Kind.EMBEDDING)
    steps.ledger.release(steps.reserve(0))
    steps.clock.advance(TTL_SECONDS + 5)
    expected = RunUsage(
        "run",
        BUDGET_NANOUSD,
        inference_nanousd=900,
        embedding_nanousd=99,
        calls=2,
        idle_seconds=TTL_SECONDS + 5,
    )
    assert steps.sweep().receipts == [expected]
    steps.reserve(BUDGET_NANOUSD)
    assert steps.usage() == RunUsage("run", BUDGET_NANOUSD, held_nanousd=BUDGET_NANOUSD, in_flight=1)


def test_every_forgotten_run_leaves_one_receipt_in_any_number_of_slices(steps: LedgerSteps) -> None:
    nothing = steps.ledger.sweep(10)
    assert (nothing.receipts, nothing.expired, nothing.more) == ([], [], False)
    for index in range(25):
        steps.spend(index, run=f"old-{index}")
    steps.clock.advance(TTL_SECONDS / 2)
    for index in range(5):
        steps.spend(index, run=f"young-{index}")
    steps.clock.advance(TTL_SECONDS / 2)
    first = steps.ledger.sweep(10)
    assert (len(first.receipts), first.more) == (10, True)
    receipts = first.receipts + steps.sweep(10).receipts
    assert sorted(receipt.run_id for receipt in receipts) == sorted(f"old-{index}" for index in range(25))
    assert sum(receipt.spent_nanousd for receipt in receipts) == sum(range(25))
    assert steps.ledger.list(RunQuery(search="old")).total == 0
    assert steps.ledger.list(RunQuery(search="young")).total == 5
