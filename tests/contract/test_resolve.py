"""Settle and release."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Hold, Kind, RunUsage
from tests.contract.stores import BUDGET_NANOUSD
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]
    Resolve = Callable[[Ledger, Hold], RunUsage | None]

RESOLVE: dict[str, Resolve] = {
    "settle": lambda ledger, hold: ledger.settle(hold, 7),
    "release": lambda ledger, hold: ledger.release(hold),
}


COSTS = [(400, 0), (400, 399), (400, 400), (400, 401), (400, 900), (400, 5_000), (BUDGET_NANOUSD, 1)]


def test_settle_records_the_full_cost_and_the_rest_of_the_budget_can_be_held(new_steps: NewSteps) -> None:
    def check(row: tuple[int, int]) -> None:
        held, cost = row
        with new_steps() as steps:
            expected = RunUsage(
                "run", BUDGET_NANOUSD, inference_nanousd=cost, calls=1, finished=cost >= BUDGET_NANOUSD
            )
            assert steps.ledger.settle(steps.reserve(held), cost) == expected
            assert steps.usage() == expected
            remaining = max(0, BUDGET_NANOUSD - cost)
            assert expected.remaining_nanousd == remaining
            with pytest.raises(BudgetExhaustedError):
                steps.reserve(remaining + 1)
            if remaining:
                assert steps.reserve(BUDGET_NANOUSD, 1).amount_nanousd == remaining

    check_rows(COSTS, check)


def test_a_cost_is_charged_to_the_kind_of_its_hold(new_steps: NewSteps) -> None:
    def check(kind: Kind) -> None:
        with new_steps() as steps:
            steps.spend(5, kind=kind)
            usage = steps.usage()
            by_kind = (5, 0) if kind is Kind.INFERENCE else (0, 5)
            assert (usage.inference_nanousd, usage.embedding_nanousd) == by_kind
            assert usage.spent_nanousd == 5

    check_rows(Kind, check)


def test_a_released_hold_charges_nothing_and_counts_no_call(steps: LedgerSteps) -> None:
    steps.spend(100)
    usage = steps.ledger.release(steps.reserve(400))
    assert usage == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=100, calls=1)
    assert steps.usage() == usage


def test_a_hold_is_resolved_once_and_only_the_first_time_is_activity(new_steps: NewSteps) -> None:
    def check(row: tuple[str, str]) -> None:
        first, second = row
        with new_steps() as steps:
            hold = steps.reserve(400)
            still_open = steps.reserve(100)
            steps.clock.advance(5)
            usage = RESOLVE[first](steps.ledger, hold)
            assert usage
            assert usage.idle_seconds == 0
            assert usage.held_nanousd == still_open.amount_nanousd
            steps.clock.advance(5)
            assert RESOLVE[second](steps.ledger, hold) is None
            assert steps.usage() == replace(usage, idle_seconds=5)

    check_rows(product(RESOLVE, RESOLVE), check)


def test_a_hold_that_was_never_granted_changes_nothing(new_steps: NewSteps) -> None:
    def check(name: str) -> None:
        with new_steps() as steps:
            granted = steps.reserve(400)
            before = steps.usage()
            assert RESOLVE[name](steps.ledger, replace(granted, id="f" * 32)) is None
            assert RESOLVE[name](steps.ledger, replace(granted, id="f" * 32, run_id="unknown")) is None
            assert steps.usage() == before
            assert steps.ledger.usage("unknown") is None

    check_rows(RESOLVE, check)


def test_holds_of_a_run_are_resolved_in_any_order(steps: LedgerSteps) -> None:
    holds = [steps.reserve(amount) for amount in (100, 0, 200, 300)]
    assert steps.ledger.settle(holds[3], 30)
    assert steps.ledger.release(holds[1])
    assert steps.ledger.settle(holds[0], 0)
    usage = steps.usage()
    assert usage == RunUsage(
        "run", BUDGET_NANOUSD, inference_nanousd=30, held_nanousd=200, calls=2, in_flight=1
    )
    assert usage.remaining_nanousd == 770


def test_a_call_of_one_run_changes_no_other_run(steps: LedgerSteps) -> None:
    steps.reserve(10, run="a")
    before = steps.usage("a")
    steps.ledger.settle(steps.reserve(20, run="b"), 20)
    assert steps.usage("a") == before


def test_an_invalid_cost_raises_value_error_and_leaves_the_hold_open(new_steps: NewSteps) -> None:
    def check(cost: float) -> None:
        with new_steps() as steps:
            hold = steps.reserve(400)
            before = steps.usage()
            with pytest.raises(ValueError, match="amounts must be integers"):
                steps.ledger.settle(hold, cost)  # type: ignore[arg-type] # invalid
            assert steps.usage() == before
            assert steps.ledger.settle(hold, 1)

    check_rows([-1, 0.5, math.nan, math.inf], check)


def test_amounts_of_a_million_dollars_are_exact_to_the_nanodollar(steps: LedgerSteps) -> None:
    million_usd = 10**15
    hold = steps.reserve(million_usd, budget=million_usd + 1)
    assert steps.reserve(2, 1, budget=million_usd + 1).amount_nanousd == 1
    assert steps.ledger.settle(hold, million_usd - 1)
    usage = steps.usage()
    assert (usage.spent_nanousd, usage.remaining_nanousd) == (million_usd - 1, 1)
