"""The table of `ridges-proxy spend watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from ridges_proxy.cli.shares import Bar
from ridges_proxy.cli.tables import amounts_of, cells_of, page_hint, state_of
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, bar_column, name_column, number_column, word_column

if TYPE_CHECKING:
    from ridges_proxy.cli.answer_types import Page

BAR_COLUMNS = 20


def live_page(page: Page) -> Group:
    """Return a table of runs, each with a bar of its spent, held and remaining amounts."""
    table = TerminalTable(
        name_column("run"),
        *map(number_column, ("spent", "held", "remaining", "calls", "in\nflight", "idle")),
        bar_column(),
        word_column("state"),
        drop=("idle", "calls", "held", "in flight", "remaining", "bar"),
        option="",
    )
    for run in page["runs"]:
        bar = Bar(run["used_cost_usd"], run["held_cost_usd"], run["max_cost_usd"], BAR_COLUMNS)
        table.add_row(*cells_of(run, *amounts_of(run)), bar, state_of(run))
    hint = plain(page_hint(page))
    hint.stylize("dim")
    return Group(table, hint)
