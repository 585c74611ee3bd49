"""The table of `ridges-proxy spend calls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ridges_proxy.cli.amounts import usd
from ridges_proxy.cli.tables import count, duration
from ridges_proxy.cli.terminal import plain
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, number_column, word_column

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.cli.answer_types import OpenCall, OpenCalls


def show_open_calls(page: OpenCalls, console: Console) -> None:
    """Print the calls in flight that have the oldest holds."""
    table = TerminalTable(
        name_column("run"),
        name_column("model"),
        word_column("kind"),
        *map(number_column, ("held", "age")),
        word_column("state"),
        drop=("kind", "model"),
    )
    for call in page["calls"]:
        age = _age(call)
        table.add_row(
            call["run_id"], call["model"], call["kind"], usd(call["held_cost_usd"]), age, _state(call)
        )
    if table:
        console.print(table)
    console.print(plain(_summary(len(page["calls"]), page["total"])), style="dim")


def _age(call: OpenCall) -> str:
    age_seconds = call["age_seconds"]
    return "unknown" if age_seconds is None else duration(age_seconds)


def _state(call: OpenCall) -> Text:
    return Text("expired", "red") if call["expired"] else Text()


def _summary(number: int, total: int) -> str:
    if not total:
        return "no calls in flight"
    shown = f"; shown: the oldest {number:,} (--limit)" if number < total else ""
    return f"{count(total, 'call')} in flight{shown}"
