"""The table of `ridges-proxy spend watch`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ridges_proxy.cli.tables import amounts_of, cells_of, page_hint, plain, runs_table

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import Page, RunUsage

BAR_COLUMNS = 20


def live_page(page: Page) -> Group:
    """Return a table of runs, each with a bar of its spent, held and remaining amounts."""
    table = runs_table("run", "spent", "held", "remaining", "calls", "in\nflight", "idle")
    table.add_column("", width=BAR_COLUMNS)
    for run in page["runs"]:
        table.add_row(*cells_of(run, *amounts_of(run)), bar(run))
    hint = plain(page_hint(page))
    hint.stylize("dim")
    return Group(table, hint)


def bar(run: RunUsage) -> Text:
    """Return a bar of a run's budget: spent, held and remaining. Spent and held are rounded up to blocks."""
    budget_usd = run["max_cost_usd"]
    spent, held = (
        min(BAR_COLUMNS, math.ceil((amount_usd / budget_usd if budget_usd else 1.0) * BAR_COLUMNS))
        for amount_usd in (run["used_cost_usd"], run["held_cost_usd"])
    )
    held = min(held, BAR_COLUMNS - spent)
    remaining = BAR_COLUMNS - spent - held
    return Text.assemble(("█" * spent, "green"), ("▒" * held, "yellow"), ("░" * remaining, "dim"))
