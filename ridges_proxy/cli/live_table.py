"""The table of `flask spend watch`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ridges_proxy.cli.tables import amounts_of, cells_of, page_hint, plain, runs_table

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import Books, Page

BAR_COLUMNS = 20


def live_page(page: Page) -> Group:
    """One page of runs with bars: what is spent, what is held, what is left."""
    table = runs_table("run", "spent", "held", "remaining", "calls", "in\nflight", "idle")
    table.add_column("", width=BAR_COLUMNS)
    for run in page["runs"]:
        table.add_row(*cells_of(run, *amounts_of(run)), bar(run))
    hint = plain(page_hint(page))
    hint.stylize("dim")
    return Group(table, hint)


def bar(run: Books) -> Text:
    """A run's cap: what is spent, what is held, and the rest; what is there at all has a block at least."""
    cap = run["max_cost_usd"]
    spent, held = (
        min(BAR_COLUMNS, math.ceil((amount / cap if cap else 1.0) * BAR_COLUMNS))
        for amount in (run["used_cost_usd"], run["held_cost_usd"])
    )
    held = min(held, BAR_COLUMNS - spent)
    rest = BAR_COLUMNS - spent - held
    return Text.assemble(("█" * spent, "green"), ("▒" * held, "yellow"), ("░" * rest, "dim"))
