"""The state of a run's budget after a call, so that an agent can see the end before it is refused. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage

LOW_PART = 5
"""A budget is low if less than one part in this many remains: less than 20 %."""


class BudgetState(StrEnum):
    """How much is left of the run's budget, and of the budgets above it."""

    OK = "ok"
    LOW = "low"
    """Less than 20 % of a budget remains."""
    FINAL = "final"
    """The next call like this one would not fit, unless it is the run's final call."""


_RISING = tuple(BudgetState)
"""Each state counts for more than those before it."""


def budget_state(usage: RunUsage, minimum_nanousd: int, reserved_nanousd: int) -> BudgetState:
    """Return the state for the next call that needs at least the same amount as this one.

    `usage` is that after the call, with the levels that held its amount. Open holds of other calls count as
    used. `reserved_nanousd` is the part of the run's own budget that the call has to leave: the budget counts
    as smaller by it, so that a part of 20 % or more does not hide that the rest is low.
    """
    used_nanousd = usage.spent_nanousd + usage.held_nanousd
    state = _state(usage.budget_nanousd - reserved_nanousd, used_nanousd, minimum_nanousd)
    for level in usage.levels:
        used_nanousd = level.spent_nanousd + level.held_nanousd
        of_level = _state(level.amount_nanousd, used_nanousd, minimum_nanousd)
        state = max(state, of_level, key=_RISING.index)
    return state


def _state(amount_nanousd: int, used_nanousd: int, minimum_nanousd: int) -> BudgetState:
    """Return the state of one budget."""
    rest_nanousd = amount_nanousd - used_nanousd
    if minimum_nanousd > rest_nanousd:
        return BudgetState.FINAL
    return BudgetState.LOW if LOW_PART * rest_nanousd < amount_nanousd else BudgetState.OK
