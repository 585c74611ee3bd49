from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.errors import (
    BudgetExhaustedError,
    RefusedError,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import Kind, Run, RunQuery, RunUsage
from tests.contract.stores import BUDGET_NANOUSD, EXPIRY_SECONDS
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ridges_proxy.ledger import Ledger
    from tests.contract.stores import LedgerSteps

    NewSteps = Callable[[], AbstractContextManager[LedgerSteps]]


@dataclass(frozen=True)
class Case:
    """A run with some spent and some holds, and one more reservation."""

    name: str
    requested: int
    minimum: int
    spent: int = 0
    holds: tuple[int, ...] = ()
    budget: int = BUDGET_NANOUSD

    def prepare(self, steps: LedgerSteps) -> None:
        if self.spent:
            steps.ledger.settle(steps.reserve(0), self.spent)
        for amount in self.holds:
            steps.reserve(amount)

    def reserve(self, steps: LedgerSteps, kind: Kind = Kind.INFERENCE) -> int:
        """Reserve, and check the hold. Return its amount."""
        hold = steps.reserve(self.requested, self.minimum, budget=self.budget, kind=kind)
        assert (hold.run_id, hold.kind, hold.expires_at) == ("run", kind, steps.clock.now + EXPIRY_SECONDS)
        return hold.amount_nanousd


# --- granted and refused


GRANTED: list[tuple[Case, int]] = [
    (Case("all that is requested", 1_000, 1), 1_000),
    (Case("what remains", 501, 1, spent=300, holds=(200,)), 500),
    (Case("exactly the minimum", 900, 500, spent=300, holds=(200,)), 500),
    (Case("all that is not spent", 700, 700, spent=300), 700),
    (Case("all that remains after a part was spent", 1_000, 1, spent=600), 400),
    (Case("a free call when nothing remains", 0, 0, spent=1_000), 0),
    (Case("a free call of a run without a budget", 0, 0, budget=0), 0),
    (Case("all beside a hold of 0", 1_000, 1_000, holds=(0,)), 1_000),
    (Case("a lower budget replaces the earlier one", 1_000, 1, spent=100, budget=400), 300),
    (Case("a higher budget replaces the earlier one", 5_000, 1, spent=1_000, budget=3_000), 2_000),
]


def test_a_reservation_holds_the_requested_amount_or_what_remains(new_steps: NewSteps) -> None:
    """Whatever the kind: both draw on one budget."""

    def check(row: tuple[tuple[Case, int], Kind]) -> None:
        (case, amount), kind = row
        with new_steps() as steps:
            case.prepare(steps)
            assert case.reserve(steps, kind) == amount
            usage = steps.usage()
            assert usage == RunUsage(
                "run",
                case.budget,
                inference_nanousd=case.spent,
                held_nanousd=sum(case.holds) + amount,
                calls=1 if case.spent else 0,
                in_flight=len(case.holds) + 1,
                finished=case.spent >= case.budget,
            )
            assert usage.remaining_nanousd == case.budget - case.spent - sum(case.holds) - amount

    check_rows(product(GRANTED, Kind), check)


REFUSED: list[tuple[Case, type[RefusedError]]] = [
    (Case("1 above what is not spent", 701, 701, spent=300), BudgetExhaustedError),
    (Case("1 above what remains", 900, 501, spent=300, holds=(200,)), RunBusyError),
    (Case("would fit without the holds", 700, 700, spent=300, holds=(700,)), RunBusyError),
    (Case("would not fit without the holds", 701, 701, spent=300, holds=(700,)), BudgetExhaustedError),
    (Case("a part is held", 600, 600, spent=100, holds=(500,)), RunBusyError),
    (Case("above the budget", 1_001, 1_001, spent=100, holds=(500,)), BudgetExhaustedError),
    (Case("a free call of an overspent run", 0, 0, spent=1_001), BudgetExhaustedError),
    (Case("a budget below what is spent", 1, 1, spent=600, budget=500), BudgetExhaustedError),
    (Case("a budget below the holds", 1, 1, spent=200, holds=(300,), budget=499), RunBusyError),
    (
        Case("a free call, a budget below the holds", 0, 0, spent=200, holds=(300,), budget=499),
        RunBusyError,
    ),
    (
        Case("a free call, a budget below what is spent", 0, 0, spent=200, holds=(300,), budget=199),
        BudgetExhaustedError,
    ),
    (Case("a run that is not known", 1_001, 1_001), BudgetExhaustedError),
]


def test_a_refusal_changes_only_the_budget_and_the_state_of_a_known_run(new_steps: NewSteps) -> None:
    def check(row: tuple[Case, type[RefusedError]]) -> None:
        case, error = row
        with new_steps() as steps:
            case.prepare(steps)
            before = steps.ledger.usage("run")
            steps.clock.advance(7)
            with pytest.raises(RefusedError) as raised:
                case.reserve(steps)
            assert type(raised.value) is error
            after = steps.ledger.usage("run")
            if before is None:
                assert after is None
                assert steps.ledger.list(RunQuery()).total == 0
                assert steps.sweep().receipts == []
            else:
                assert (before.budget_nanousd, before.idle_seconds) == (BUDGET_NANOUSD, 0)
                is_finished = error is BudgetExhaustedError or case.spent >= case.budget
                assert after == replace(before, budget_nanousd=case.budget, finished=is_finished)

    check_rows(REFUSED, check)


def test_a_free_call_settles_although_nothing_remains(steps: LedgerSteps) -> None:
    steps.spend(BUDGET_NANOUSD)
    usage = steps.ledger.settle(steps.reserve(0), 0)
    assert usage == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=BUDGET_NANOUSD, calls=2, finished=True)


def test_every_hold_has_another_id(steps: LedgerSteps) -> None:
    assert len({steps.reserve(1).id for _ in range(100)}) == 100


def test_a_released_amount_can_be_held_again(steps: LedgerSteps) -> None:
    other = steps.reserve(BUDGET_NANOUSD)
    with pytest.raises(RunBusyError):
        steps.reserve(1)
    steps.ledger.release(other)
    assert steps.reserve(1).amount_nanousd == 1


# --- invalid amounts


INVALID = [
    # budget, requested, minimum
    (1_000, -1, -1),
    (1_000, 1, -1),
    (1_000, 1, 2),
    (-1, 1, 1),
    (1_000, 1.5, 1),
    (1_000, 1, 0.5),
    (1_000, math.nan, math.nan),
    (1_000, math.inf, 1),
    (1_000.5, 1, 1),
]


def test_invalid_amounts_raise_value_error_and_change_nothing(new_steps: NewSteps) -> None:
    def check(row: tuple[float, float, float]) -> None:
        budget, requested, minimum = row
        with new_steps() as steps:
            steps.spend(1)
            before = steps.usage()
            for run in ("run", "unknown"):
                with pytest.raises(ValueError, match=r"must be integers|minimum of a reservation"):
                    steps.reserve(requested, minimum, run=run, budget=budget)  # type: ignore[arg-type] # invalid
            assert steps.usage() == before
            assert steps.ledger.usage("unknown") is None

    check_rows(INVALID, check)


# --- run ids


def test_ids_that_differ_in_any_byte_are_different_runs(steps: LedgerSteps) -> None:
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
        steps.spend(index, run=run_id)
    assert len(set(ids)) == len(ids)
    for index, run_id in enumerate(ids):
        assert steps.usage(run_id) == RunUsage(run_id, BUDGET_NANOUSD, inference_nanousd=index, calls=1)
    assert steps.ledger.list(RunQuery()).total == len(ids)


def test_a_run_does_not_draw_on_the_budget_of_another(ledger: Ledger) -> None:
    for run_id, budget in (("a", 10), ("b", 20)):
        hold = ledger.reserve(Run(run_id, budget), Kind.INFERENCE, 100, 1, EXPIRY_SECONDS)
        assert hold.amount_nanousd == budget


# --- calls in flight


TWO_CALLS = Run("run", BUDGET_NANOUSD, max_in_flight=2)


def test_a_run_has_at_most_its_limit_of_open_holds(steps: LedgerSteps) -> None:
    ledger = steps.ledger
    first, _ = (ledger.reserve(TWO_CALLS, Kind.INFERENCE, 10, 10, EXPIRY_SECONDS) for _ in range(2))
    before = ledger.usage("run")
    with pytest.raises(TooManyInFlightError):
        ledger.reserve(TWO_CALLS, Kind.EMBEDDING, 0, 0, EXPIRY_SECONDS)
    assert ledger.usage("run") == before, "the refusal changed nothing"
    ledger.reserve(replace(TWO_CALLS, id="another"), Kind.INFERENCE, 10, 10, EXPIRY_SECONDS)
    ledger.settle(first, 10)
    ledger.reserve(TWO_CALLS, Kind.EMBEDDING, 0, 0, EXPIRY_SECONDS)


def test_each_reservation_names_its_own_limit_of_open_holds(steps: LedgerSteps) -> None:
    for limit in (1, 2, 3):
        run = replace(TWO_CALLS, max_in_flight=limit)
        steps.ledger.reserve(run, Kind.INFERENCE, 1, 1, EXPIRY_SECONDS)
    with pytest.raises(TooManyInFlightError):
        steps.ledger.reserve(TWO_CALLS, Kind.INFERENCE, 1, 1, EXPIRY_SECONDS)
    steps.reserve(1)


def test_too_many_in_flight_is_checked_after_closed_and_before_exhausted(steps: LedgerSteps) -> None:
    for _ in range(2):
        steps.reserve(BUDGET_NANOUSD // 2)
    with pytest.raises(TooManyInFlightError):
        steps.ledger.reserve(TWO_CALLS, Kind.INFERENCE, 2 * BUDGET_NANOUSD, 2 * BUDGET_NANOUSD, 1.0)
    steps.ledger.close(TWO_CALLS)
    with pytest.raises(RunClosedError):
        steps.ledger.reserve(TWO_CALLS, Kind.INFERENCE, 1, 1, 1.0)
