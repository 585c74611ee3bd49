"""A refusal by a budget: which one refuses, and until when. Pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.budgets import ALL
from ridges_proxy.errors import BudgetExhaustedError, PeriodFullError
from ridges_proxy.runtime.iso_time import time_or_null

if TYPE_CHECKING:
    from ridges_proxy.errors import ProxyError, RefusingBudget

_NEXT_CONDITION = re.compile(" (?=model:|kind:)")


def refusal_json(error: ProxyError) -> dict[str, Any]:
    """The fields that only the refusal by a budget has; none for another error.

    If its period ends soon, the caller can wait. Then there is no word that an agent could take for final, so
    the budget is not named.
    """
    if isinstance(error, BudgetExhaustedError):
        return refusing_budget_json(error.budget)
    if isinstance(error, PeriodFullError):
        window, resets_at = error.budget.window, time_or_null(error.budget.resets_at)
        return {"window": window, "resets_at": resets_at}
    return {}


def refusing_budget_json(budget: RefusingBudget) -> dict[str, Any]:
    """The budget that refuses a call."""
    return {
        "budget": budget.budget,
        "scope": budget.scope,
        "window": budget.window,
        "resets_at": time_or_null(budget.resets_at),
    }


def message_of(error: ProxyError) -> str:
    """The error's message. That of a budget above the run names it; its names come from the operator."""
    if not isinstance(error, BudgetExhaustedError) or error.is_of_run:
        return error.message
    budget = error.budget
    name = f"The budget '{budget.budget}' ({_plain(budget.scope)})"
    rest = "what remains does not pay for this call"
    if budget.resets_at is None:
        return f"{name} is used up: {rest}. Do not retry it"
    until = f"{datetime.fromtimestamp(budget.resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{name} is used up until {until}: {rest}. Do not retry it before then"


def _plain(scope: str) -> str:
    """The scope in words: `group miner:1, kind inference`."""
    if scope == ALL:
        return "all calls"
    return ", ".join(part.replace(":", " ", 1) for part in _NEXT_CONDITION.split(scope))
