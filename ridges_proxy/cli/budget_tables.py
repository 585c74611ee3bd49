"""Tables of budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.windows import period_at, zone_of
from ridges_proxy.cli.amounts import exact_usd_of
from ridges_proxy.cli.tables import count, to_minutes
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, number_column, word_column
from ridges_proxy.runtime.iso_time import time_or_null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ridges_proxy.billing.budgets import Budget

NEVER = "never"


def show_budgets(budgets: Sequence[Budget], now: float, console: Console) -> None:
    """Print budgets with their periods at a time in seconds since the epoch."""
    table = TerminalTable(
        name_column("budget"),
        number_column("amount"),
        *map(word_column, ("window", "zone")),
        name_column("match"),
        *map(word_column, ("period", "resets at (UTC)")),
        drop=("zone", "resets at (UTC)", "period", "window"),
    )
    for budget in budgets:
        row = budget_document(budget, now)
        cells = (
            budget.name,
            exact_usd_of(budget.amount_nanousd),
            budget.window,
            budget.zone,
            row["match"],
            row["period"],
            to_minutes(row["resets_at"]) if row["resets_at"] else NEVER,
        )
        table.add_row(*cells)
    if table:
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
