"""The amount that was left for a refused call, and its budget. For operators: agents are not told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.calls.run_levels import usage_before_call
from ridges_proxy.errors import BudgetExhaustedError, LedgerUnavailableError, RefusingBudget

if TYPE_CHECKING:
    from ridges_proxy.errors import RefusedError
    from ridges_proxy.ledger import Ledger, Run, RunUsage


@dataclass(frozen=True, slots=True)
class RefusedAmounts:
    """What was left for a refused call, at the moment after the refusal."""

    budget: RefusingBudget
    """The budget that has refused the call. If the call may fit later, the one with the least left."""
    remaining_nanousd: int | None = None
    """What is left of it: the amount that is not spent. If the call may fit later, without what other calls
    hold. None: the ledger did not answer."""
    usage: RunUsage | None = None
    """The usage of the run, with its levels."""


def refused_amounts(refusal: RefusedError, run: Run, ledger: Ledger) -> RefusedAmounts | None:
    """Ask the ledger what is left for a call of this run. A call that gets its hold never asks this.

    None: nothing is known, not even the budget.
    """
    final = refusal.budget if isinstance(refusal, BudgetExhaustedError) else None
    try:
        usage = usage_before_call(run, ledger)
    except LedgerUnavailableError:
        return RefusedAmounts(final) if final else None
    left = _left(run, usage, with_holds=final is not None)
    budget = final or min(left, key=lambda each: left[each])
    return RefusedAmounts(budget, left.get(budget), usage)


def _left(run: Run, usage: RunUsage, *, with_holds: bool) -> dict[RefusingBudget, int]:
    """Return what is left of the run's budget, without the part that the call must leave, and of those above.

    `with_holds`: including what other calls hold.
    """
    spendable_nanousd = run.budget_nanousd - run.reserved_nanousd
    amounts = {RefusingBudget(): (spendable_nanousd, usage.spent_nanousd, usage.held_nanousd)}
    for each in usage.levels:
        level = each.level
        budget = RefusingBudget(level.budget, level.scope, level.window, level.resets_at)
        amounts[budget] = each.amount_nanousd, each.spent_nanousd, each.held_nanousd
    return {
        budget: max(0, amount - spent - (0 if with_holds else held))
        for budget, (amount, spent, held) in amounts.items()
    }
