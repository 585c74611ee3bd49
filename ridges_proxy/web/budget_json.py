"""Budgets and their levels as JSON, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.windows import period_at, zone_of
from ridges_proxy.runtime.iso_time import time_or_null
from ridges_proxy.web.run_json import level_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.ledger import LevelPage, LevelQuery, LevelUsage
    from ridges_proxy.web.budget_actions import KnownBudget


def budget_json(known: KnownBudget, now: float) -> dict[str, Any]:
    """A budget with its present period and the amounts that are set. Null: BUDGETS does not have it."""
    budget, in_force_nanousd = known.budget, known.amount_nanousd("")
    period = budget and period_at(budget.window, zone_of(budget.zone), now)
    return {
        "name": known.name,
        "usd": budget and usd_from_nanousd(budget.amount_nanousd),
        "usd_in_force": None if in_force_nanousd is None else usd_from_nanousd(in_force_nanousd),
        "set_amounts": [
            {"scope": each.scope or None, "usd": usd_from_nanousd(each.amount_nanousd)}
            for each in known.set_amounts
        ],
        "window": budget and budget.window,
        "zone": budget and budget.zone,
        "group": budget and budget.group,
        "model": budget and budget.model,
        "kind": budget and budget.kind,
        "match": budget and budget.scope_of(budget.group),
        "period": period and period.text,
        "resets_at": period and time_or_null(period.resets_at),
    }


def levels_json(usages: Sequence[LevelUsage]) -> list[dict[str, Any]]:
    """The usage of levels: each is a budget for one scope in one period."""
    return [{**level_json(usage), "in_flight": usage.in_flight} for usage in usages]


def page_json(page: LevelPage, query: LevelQuery) -> dict[str, Any]:
    """One page of levels, and its position in the list."""
    return {
        "levels": levels_json(page.levels),
        "total": page.total,
        "offset": query.offset,
        "limit": query.limit,
    }
