from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Hold, Kind, RunUsage
from tests.contract.stores import CAP_NANOUSD

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import Till
    from tests.support.clock import Clock

    Resolve = Callable[[Ledger, Hold], RunUsage | None]

WAYS: dict[str, Resolve] = {
    "settled": lambda ledger, hold: ledger.settle(hold, 7),
    "released": lambda ledger, hold: ledger.release(hold),
}


@pytest.mark.parametrize("cost", [0, 399, 400, 401, 5_000])
def test_settling_records_the_cost_in_full_whether_below_at_or_above_the_hold(till: Till, cost: int) -> None:
    hold = till.reserve(400)
    expected = RunUsage("run", CAP_NANOUSD, inference_nanousd=cost, calls=1)
    assert till.ledger.settle(hold, cost) == expected
    assert till.ledger.usage("run") == expected
    assert expected.remaining_nanousd == max(0, CAP_NANOUSD - cost)


def test_what_a_settled_call_did_not_use_can_be_held_again(till: Till) -> None:
    till.ledger.settle(till.reserve(CAP_NANOUSD), 1)
    assert till.reserve(CAP_NANOUSD, 1).amount_nanousd == CAP_NANOUSD - 1


def test_a_cost_above_the_hold_counts_against_the_cap(till: Till) -> None:
    till.ledger.settle(till.reserve(400), 900)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(101)
    assert till.reserve(100).amount_nanousd == 100


@pytest.mark.parametrize("kind", list(Kind))
def test_spend_is_kept_by_the_kind_of_its_hold(till: Till, kind: Kind) -> None:
    till.spend(5, kind=kind)
    books = till.ledger.usage("run")
    assert books
    assert (books.inference_nanousd, books.embedding_nanousd) == (
        (5, 0) if kind is Kind.INFERENCE else (0, 5)
    )
    assert books.spent_nanousd == 5


def test_a_released_hold_leaves_no_spend_and_no_call(till: Till) -> None:
    till.spend(100)
    books = till.ledger.release(till.reserve(400))
    assert books == RunUsage("run", CAP_NANOUSD, inference_nanousd=100, calls=1)
    assert till.ledger.usage("run") == books


@pytest.mark.parametrize(("first", "second"), list(itertools.product(WAYS, WAYS)))
def test_a_hold_resolves_once_and_a_second_time_changes_nothing(till: Till, first: str, second: str) -> None:
    hold = till.reserve(400)
    still_open = till.reserve(100)
    after_first = WAYS[first](till.ledger, hold)
    assert after_first
    assert WAYS[second](till.ledger, hold) is None
    assert till.ledger.usage("run") == after_first
    assert after_first.held_nanousd == still_open.amount_nanousd


def test_a_resolution_that_came_too_late_is_no_activity(till: Till, clock: Clock) -> None:
    hold = till.reserve(1)
    till.ledger.settle(hold, 1)
    clock.advance(5)
    till.ledger.settle(hold, 1)
    books = till.ledger.usage("run")
    assert books
    assert books.idle_seconds == 5


@pytest.mark.parametrize("way", WAYS)
def test_resolving_a_hold_that_was_never_given_changes_nothing(till: Till, way: str) -> None:
    real = till.reserve(400)
    before = till.ledger.usage("run")
    assert WAYS[way](till.ledger, replace(real, id="f" * 32)) is None
    assert WAYS[way](till.ledger, replace(real, id="f" * 32, run_id="unknown")) is None
    assert till.ledger.usage("run") == before
    assert till.ledger.usage("unknown") is None


def test_holds_of_one_run_resolve_in_any_order(till: Till) -> None:
    holds = [till.reserve(amount) for amount in (100, 0, 200, 300)]
    assert till.ledger.settle(holds[3], 30)
    assert till.ledger.release(holds[1])
    assert till.ledger.settle(holds[0], 0)
    books = till.ledger.usage("run")
    assert books == RunUsage("run", CAP_NANOUSD, inference_nanousd=30, held_nanousd=200, calls=2, in_flight=1)
    assert books.remaining_nanousd == 770


def test_a_hold_of_one_run_leaves_every_other_run_alone(till: Till) -> None:
    till.reserve(10, run="a")
    before = till.ledger.usage("a")
    till.ledger.settle(till.reserve(20, run="b"), 20)
    assert till.ledger.usage("a") == before


@pytest.mark.parametrize("cost", [-1, 0.5, math.nan, math.inf])
def test_a_cost_that_is_negative_or_not_whole_is_an_error_and_leaves_the_hold_open(
    till: Till, cost: int
) -> None:
    hold = till.reserve(400)
    before = till.ledger.usage("run")
    with pytest.raises(ValueError, match="amounts must be integers"):
        till.ledger.settle(hold, cost)
    assert till.ledger.usage("run") == before
    assert till.ledger.settle(hold, 1)


@pytest.mark.parametrize("way", WAYS)
def test_resolving_is_activity(till: Till, clock: Clock, way: str) -> None:
    hold = till.reserve(400)
    clock.advance(5)
    books = WAYS[way](till.ledger, hold)
    assert books
    assert books.idle_seconds == 0


def test_amounts_of_a_million_dollars_are_kept_to_the_nanodollar(till: Till) -> None:
    million_usd = 10**15
    hold = till.reserve(million_usd, cap=million_usd + 1)
    assert till.reserve(2, 1, cap=million_usd + 1).amount_nanousd == 1
    assert till.ledger.settle(hold, million_usd - 1)
    books = till.ledger.usage("run")
    assert books
    assert (books.spent_nanousd, books.remaining_nanousd) == (million_usd - 1, 1)
