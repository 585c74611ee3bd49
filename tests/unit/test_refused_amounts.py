from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.levels import Level
from ridges_proxy.calls.refused_amounts import RefusedAmounts, refused_amounts
from ridges_proxy.errors import (
    BudgetExhaustedError,
    LedgerUnavailableError,
    RefusedError,
    RefusingBudget,
    RunBusyError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import Kind, MemoryLedger, Run
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest

DAY = Level("all", "all", "day 2026-11-30", 500, 1_800_000_000.0)
MONTH = Level("group", "group:a", "month 2026-11", 9_000, 1_900_000_000.0)
RUN = Run("run", 1_000, reserved_nanousd=100, levels=(DAY, MONTH))

OWN = RefusingBudget()
OF_DAY = RefusingBudget("all", "all", DAY.window, DAY.resets_at)
OF_MONTH = RefusingBudget("group", "group:a", MONTH.window, MONTH.resets_at)


def used_ledger() -> MemoryLedger:
    """A ledger in which the run has spent 200 and holds 50, and another run has spent 90 of the day."""
    ledger = MemoryLedger(1200.0)
    for run, spent in ((RUN, 200), (Run("other", 1_000, levels=(DAY,)), 90)):
        ledger.settle(ledger.reserve(run, Kind.INFERENCE, spent, spent, 60.0), spent)
    ledger.reserve(RUN, Kind.INFERENCE, 50, 50, 60.0)
    return ledger


REFUSALS: list[tuple[RefusedError, RefusingBudget, int]] = [
    (BudgetExhaustedError(), OWN, 700),
    (BudgetExhaustedError(OF_DAY), OF_DAY, 210),
    (BudgetExhaustedError(OF_MONTH), OF_MONTH, 8_800),
    (RunBusyError(), OF_DAY, 160),
    (TooManyInFlightError(), OF_DAY, 160),
]


def test_a_final_refusal_names_its_budget_and_another_one_the_budget_with_the_least_left() -> None:
    ledger = used_ledger()

    def check(row: tuple[RefusedError, RefusingBudget, int]) -> None:
        refusal, budget, left = row
        found = refused_amounts(refusal, RUN, ledger)
        assert found
        assert (found.budget, found.remaining_nanousd) == (budget, left)
        assert found.usage
        assert (found.usage.spent_nanousd, found.usage.budget_nanousd) == (200, 1_000)

    check_rows(REFUSALS, check)


def test_a_run_that_costs_more_than_its_budget_has_nothing_left() -> None:
    ledger = MemoryLedger(1200.0)
    ledger.settle(ledger.reserve(RUN, Kind.INFERENCE, 10, 10, 60.0), 5_000)
    found = refused_amounts(BudgetExhaustedError(), RUN, ledger)
    assert found
    assert found.remaining_nanousd == 0


def test_without_an_answer_of_the_ledger_only_the_budget_of_the_refusal_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: str) -> None:
        raise LedgerUnavailableError

    ledger = used_ledger()
    monkeypatch.setattr(ledger, "usage", fail)
    assert refused_amounts(BudgetExhaustedError(OF_DAY), RUN, ledger) == RefusedAmounts(OF_DAY)
    assert refused_amounts(RunBusyError(), RUN, ledger) is None
