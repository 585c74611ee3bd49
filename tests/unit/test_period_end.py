"""Limits above a run: when a period ends, and the usage that a call is checked against."""

from __future__ import annotations

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.calls.period_end import SOON_SECONDS, refusal_for
from ridges_proxy.calls.refused_amounts import refused_amounts
from ridges_proxy.calls.run_levels import usage_before_call
from ridges_proxy.errors import BudgetExhaustedError, PeriodFullError, RefusingBudget, RunBusyError
from ridges_proxy.ledger import Kind, MemoryLedger, Run

NOW = 1_000.0
LARGE = Level("large", "all", "day 1970-01-01", 900, 86_400.0)
SMALL = Level("small", "group:a", "day 1970-01-01", 200, 86_400.0)
RUN = Run("run", 1_000, groups=("a",), levels=(LARGE, SMALL))


def in_small(resets_at: float | None = 86_400.0) -> RefusingBudget:
    return RefusingBudget("small", "group:a", "day", resets_at)


def test_a_call_that_may_fit_later_is_told_the_budget_with_the_least_left() -> None:
    ledger = MemoryLedger(600.0)
    ledger.reserve(RUN, Kind.INFERENCE, 150, 150, 60.0)
    busy = refused_amounts(RunBusyError(), RUN, ledger)
    assert busy is not None
    assert (busy.budget, busy.remaining_nanousd) == (in_small(), 50), "without what other calls hold"
    final = refused_amounts(BudgetExhaustedError(in_small()), RUN, ledger)
    assert final is not None
    assert (final.budget, final.remaining_nanousd) == (in_small(), 200)


def test_the_usage_before_a_call_has_its_limits_also_of_an_unknown_run() -> None:
    ledger = MemoryLedger(600.0)
    for _ in range(2):
        usage = usage_before_call(RUN, ledger)
        assert (usage.budget_nanousd, usage.groups) == (1_000, ("a",))
        assert [each.level for each in usage.levels] == [LARGE, SMALL]
        ledger.settle(ledger.reserve(Run("run", 5_000), Kind.INFERENCE, 1, 1, 60.0), 1)


@pytest.mark.parametrize(
    ("seconds", "retry_after_seconds"), [(0.2, 1), (1.0, 1), (1.2, 2), (SOON_SECONDS - 0.5, SOON_SECONDS)]
)
def test_a_call_may_be_repeated_when_the_period_ends_soon(seconds: float, retry_after_seconds: int) -> None:
    refusal = refusal_for(BudgetExhaustedError(in_small(NOW + seconds)), NOW)
    assert isinstance(refusal, PeriodFullError)
    assert (refusal.budget, refusal.retry_after_seconds) == (in_small(NOW + seconds), retry_after_seconds)


@pytest.mark.parametrize("resets_at", [None, NOW + SOON_SECONDS, NOW + 86_400])
def test_a_refusal_is_final_if_its_period_does_not_end_soon(resets_at: float | None) -> None:
    refusal = BudgetExhaustedError(in_small(resets_at))
    assert refusal_for(refusal, NOW) is refusal
