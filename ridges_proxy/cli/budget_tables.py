"""Tables of budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.windows import period_at, zone_of
from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.tables import LENGTH_TO_MINUTES, count, plain, runs_table, table_console
from ridges_proxy.runtime.iso_time import time_or_null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.billing.budgets import Budget

NEVER = "never"


def show_budgets(budgets: Sequence[Budget], now: float) -> None:
    """Print budgets with their periods at a time in seconds since the epoch."""
    table = runs_table("budget", "amount")
    for column in ("window", "zone", "match", "period", "resets at (UTC)"):
        table.add_column(column, overflow="fold")
    for budget in budgets:
        row = budget_document(budget, now)
        cells = (
            budget.name,
            exact_usd_of(budget.amount_nanousd),
            budget.window,
            budget.zone,
            row["match"],
            row["period"],
            row["resets_at"][:LENGTH_TO_MINUTES].replace("T", " ") if row["resets_at"] else NEVER,
        )
        table.add_row(*map(plain, cells))
    console = table_console()
    if budgets:
        console.print(table)
    console.print(plain(count(len(budgets), "budget") if budgets else "no budgets"), style="dim")


def budget_document(budget: Budget, now: float) -> dict[str, Any]:
    """Return a budget for JSON, with its period at a time in seconds since the epoch."""
    period = period_at(budget.window, zone_of(budget.zone), now)
    return {
        "name": budget.name,
        "usd": usd_from_nanousd(budget.amount_nanousd),
        "window": budget.window,
        "zone": budget.zone,
        "match": budget.scope_of(budget.group),
        "period": period.text,
        "resets_at": time_or_null(period.resets_at),
    }
