from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import Kind, Run, RunQuery, RunUsage
from tests.contract.stores import CAP_NANOUSD, EXPIRY_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import Till
    from tests.support.clock import Clock

BOTH_REFUSALS = (BudgetExhaustedError, BudgetHeldError)


# --- what is granted


def test_a_reservation_holds_all_that_is_wanted_when_that_remains(till: Till, clock: Clock) -> None:
    hold = till.reserve(CAP_NANOUSD, 1, kind=Kind.EMBEDDING)
    assert (hold.amount_nanousd, hold.run_id, hold.kind) == (CAP_NANOUSD, "run", Kind.EMBEDDING)
    assert hold.expires_at == clock.now + EXPIRY_SECONDS
    assert till.ledger.usage("run") == RunUsage("run", CAP_NANOUSD, held_nanousd=CAP_NANOUSD, in_flight=1)


def test_a_reservation_holds_what_remains_when_less_than_wanted_does(till: Till) -> None:
    till.spend(300)
    till.reserve(200)
    assert till.reserve(501, 1).amount_nanousd == 500


def test_a_reservation_may_hold_exactly_its_floor(till: Till) -> None:
    till.spend(300)
    till.reserve(200)
    assert till.reserve(900, 500).amount_nanousd == 500


def test_every_hold_has_an_id_of_its_own(till: Till) -> None:
    assert len({till.reserve(1).id for _ in range(100)}) == 100


def test_both_kinds_draw_on_the_one_cap(till: Till) -> None:
    till.spend(600, kind=Kind.INFERENCE)
    assert till.reserve(CAP_NANOUSD, 1, kind=Kind.EMBEDDING).amount_nanousd == 400


def test_a_call_that_costs_nothing_is_admitted_even_where_nothing_remains(till: Till) -> None:
    till.spend(CAP_NANOUSD)
    free = till.reserve(0)
    assert free.amount_nanousd == 0
    books = till.ledger.settle(free, 0)
    assert books == RunUsage("run", CAP_NANOUSD, inference_nanousd=CAP_NANOUSD, calls=2)


def test_a_run_without_any_cap_may_make_calls_that_cost_nothing(till: Till) -> None:
    assert till.reserve(0, cap=0).amount_nanousd == 0
    assert till.ledger.usage("run") == RunUsage("run", 0, in_flight=1)


# --- what is refused


def test_a_floor_one_above_the_unspent_cap_is_exhausted_and_one_at_it_is_not(till: Till) -> None:
    till.spend(300)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(701)
    assert till.reserve(700).amount_nanousd == 700


def test_a_floor_one_above_what_remains_is_held_and_one_at_it_is_granted(till: Till) -> None:
    till.spend(300)
    till.reserve(200)
    with pytest.raises(BudgetHeldError):
        till.reserve(900, 501)
    assert till.reserve(900, 500).amount_nanousd == 500


def test_holds_turn_no_refusal_into_exhausted_that_would_fit_without_them(till: Till) -> None:
    till.spend(300)
    till.reserve(700)
    with pytest.raises(BudgetHeldError):
        till.reserve(700)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(701)


def test_a_hold_of_nothing_does_not_fake_chutes_the_way(till: Till) -> None:
    till.reserve(0)
    assert till.reserve(CAP_NANOUSD).amount_nanousd == CAP_NANOUSD


def test_held_becomes_granted_once_the_other_hold_is_released(till: Till) -> None:
    other = till.reserve(CAP_NANOUSD)
    with pytest.raises(BudgetHeldError):
        till.reserve(1)
    till.ledger.release(other)
    assert till.reserve(1).amount_nanousd == 1


def test_a_run_that_spent_more_than_its_cap_is_exhausted_even_for_a_call_that_costs_nothing(
    till: Till,
) -> None:
    till.ledger.settle(till.reserve(1), CAP_NANOUSD + 1)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(0)


@pytest.mark.parametrize("floor", [600, 1_001], ids=["held", "exhausted"])
def test_a_refusal_changes_nothing_in_the_books(till: Till, floor: int) -> None:
    till.spend(100, kind=Kind.EMBEDDING)
    till.reserve(500)
    before = till.ledger.usage("run")
    with pytest.raises(BOTH_REFUSALS):
        till.reserve(floor)
    assert till.ledger.usage("run") == before


def test_a_refusal_leaves_the_cap_as_it_was(till: Till) -> None:
    till.spend(600)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(1, cap=500)
    books = till.ledger.usage("run")
    assert books
    assert books.budget_nanousd == CAP_NANOUSD


@pytest.mark.parametrize("floor", [600, 1_001], ids=["held", "exhausted"])
def test_a_refusal_is_activity_of_a_known_run(till: Till, clock: Clock, floor: int) -> None:
    till.reserve(500)
    clock.advance(7)
    with pytest.raises(BOTH_REFUSALS):
        till.reserve(floor)
    books = till.ledger.usage("run")
    assert books
    assert books.idle_seconds == 0


def test_a_refusal_makes_no_unknown_run_known(till: Till) -> None:
    with pytest.raises(BudgetExhaustedError):
        till.reserve(CAP_NANOUSD + 1)
    assert till.ledger.usage("run") is None
    assert till.ledger.list(RunQuery()).total == 0
    assert till.sweep().receipts == []


# --- the cap


def test_a_later_and_lower_cap_replaces_the_earlier_one(till: Till) -> None:
    till.spend(100)
    assert till.reserve(CAP_NANOUSD, 1, cap=400).amount_nanousd == 300
    books = till.ledger.usage("run")
    assert books
    assert books.budget_nanousd == 400


def test_a_later_and_higher_cap_replaces_the_earlier_one(till: Till) -> None:
    till.spend(CAP_NANOUSD)
    assert till.reserve(5_000, 1, cap=3_000).amount_nanousd == 2_000
    books = till.ledger.usage("run")
    assert books
    assert (books.budget_nanousd, books.remaining_nanousd) == (3_000, 0)


def test_a_cap_lowered_below_the_holds_is_held_and_below_the_spend_exhausted(till: Till) -> None:
    till.spend(200)
    till.reserve(300)
    with pytest.raises(BudgetHeldError):
        till.reserve(1, cap=499)
    with pytest.raises(BudgetHeldError):
        till.reserve(0, cap=499)
    with pytest.raises(BudgetExhaustedError):
        till.reserve(0, cap=199)


# --- what cannot be asked for


@pytest.mark.parametrize(
    ("cap", "want", "floor"),
    [
        (1_000, -1, -1),
        (1_000, 1, -1),
        (1_000, 1, 2),
        (-1, 1, 1),
        (1_000, 1.5, 1),
        (1_000, 1, 0.5),
        (1_000, math.nan, math.nan),
        (1_000, math.inf, 1),
        (1_000.5, 1, 1),
    ],
)
def test_amounts_that_are_negative_or_not_whole_are_errors_and_change_nothing(
    till: Till, cap: int, want: int, floor: int
) -> None:
    till.spend(1)
    before = till.ledger.usage("run")
    with pytest.raises(ValueError, match=r"amounts must be integers|minimum of a reservation"):
        till.reserve(want, floor, cap=cap)
    assert till.ledger.usage("run") == before
    with pytest.raises(ValueError, match=r"amounts must be integers|minimum of a reservation"):
        till.reserve(want, floor, run="unknown", cap=cap)
    assert till.ledger.usage("unknown") is None


# --- who is who


def test_runs_whose_ids_differ_at_all_are_different_runs(till: Till) -> None:
    ids = [
        "run",
        "Run",
        "RUN",
        "run ",
        " run",
        "r un",
        "r  un",
        "\uff52un",
        "%",
        "_",
        "*",
        "run:1",
        "{run}",
        "é" * 256,
    ]
    ids += [unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD")]
    for index, run_id in enumerate(ids):
        till.spend(index, run=run_id)
    assert len(set(ids)) == len(ids)
    for index, run_id in enumerate(ids):
        assert till.ledger.usage(run_id) == RunUsage(run_id, CAP_NANOUSD, inference_nanousd=index, calls=1)
    assert till.ledger.list(RunQuery()).total == len(ids)


def test_one_run_does_not_draw_on_anothers_cap(ledger: Ledger) -> None:
    for run_id, cap in (("a", 10), ("b", 20)):
        hold = ledger.reserve(Run(run_id, cap), Kind.INFERENCE, 100, 1, EXPIRY_SECONDS)
        assert hold.amount_nanousd == cap


# --- calls in flight


def of_two_calls(cap: int = CAP_NANOUSD) -> Run:
    return Run("run", cap, most_in_flight=2)


def test_as_many_holds_of_a_run_are_open_as_it_may_have_and_not_one_more(till: Till) -> None:
    ledger = till.ledger
    first, _ = (ledger.reserve(of_two_calls(), Kind.INFERENCE, 10, 10, EXPIRY_SECONDS) for _ in range(2))
    books = ledger.usage("run")
    with pytest.raises(TooManyInFlightError):
        ledger.reserve(of_two_calls(), Kind.EMBEDDING, 0, 0, EXPIRY_SECONDS)
    assert ledger.usage("run") == books, "the refusal changed nothing"
    ledger.reserve(replace(of_two_calls(), id="another"), Kind.INFERENCE, 10, 10, EXPIRY_SECONDS)
    ledger.settle(first, 10)
    ledger.reserve(of_two_calls(), Kind.EMBEDDING, 0, 0, EXPIRY_SECONDS)


def test_a_limit_of_calls_in_flight_is_the_callers_and_may_change(till: Till) -> None:
    for most in (1, 2, 3):
        till.ledger.reserve(
            replace(of_two_calls(), most_in_flight=most), Kind.INFERENCE, 1, 1, EXPIRY_SECONDS
        )
    with pytest.raises(TooManyInFlightError):
        till.ledger.reserve(of_two_calls(), Kind.INFERENCE, 1, 1, EXPIRY_SECONDS)
    till.reserve(1)


def test_too_many_in_flight_is_said_before_exhausted_and_after_closed(till: Till) -> None:
    for _ in range(2):
        till.reserve(CAP_NANOUSD // 2)
    with pytest.raises(TooManyInFlightError):
        till.ledger.reserve(of_two_calls(), Kind.INFERENCE, 2 * CAP_NANOUSD, 2 * CAP_NANOUSD, 1.0)
    till.ledger.close(of_two_calls())
    with pytest.raises(RunClosedError):
        till.ledger.reserve(of_two_calls(), Kind.INFERENCE, 1, 1, 1.0)
