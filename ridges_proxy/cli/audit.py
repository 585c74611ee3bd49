"""`ridges-proxy audit`: what operators have done on the running server.

`flask audit` is the same. It is an entry point, so it loads no app and needs no CHUTES_API_KEY.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.amounts import exact_usd
from ridges_proxy.cli.command_group import reading_command, show
from ridges_proxy.cli.history import time_in_past
from ridges_proxy.cli.tables import count, to_minutes
from ridges_proxy.cli.terminal import plain, wide_option
from ridges_proxy.cli.terminal_table import TerminalTable, name_column, word_column
from ridges_proxy.ledger import Action
from ridges_proxy.runtime.csv_cells import csv_lines

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.cli.answer_types import AuditEntry
    from ridges_proxy.cli.client import AdminClient

PAGE_ENTRIES = 500
MAX_ENTRIES = 100_000
COLUMNS = ("at", "action", "subject", "actor", "address", "detail", "valid_until", "request_id", "id")

SUMMARY = """Show what operators have done: who, when and from where. The newest actions come first.

These are sign-ins to the dashboard, resets, closed runs, issued tokens, changed budgets and sweeps."""


@reading_command(
    "audit",
    SUMMARY,
    "ridges-proxy audit --since 7d --action run_closed",
    "ridges-proxy audit --subject agent-7 --csv",
)
@click.option(
    "--since", metavar="WHEN", callback=time_in_past, help="Only the last 90m, 12h or 7d, or since a date."
)
@click.option(
    "--action",
    metavar="ACTION",
    type=click.Choice([each.value for each in Action]),
    help=f"Only this action: {', '.join(Action)}.",
)
@click.option("--subject", metavar="TEXT", help="Only about runs, budgets or sessions with this text.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MAX_ENTRIES),
    default=50,
    show_default=True,
    help="Number of actions to show.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@wide_option
def audit(  # noqa: PLR0913 - one parameter for each option
    client: AdminClient,
    *,
    since: float | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
    console: Console,
    **filters: str | None,
) -> None:
    """Print the newest actions that match."""
    if as_csv and as_json:
        raise click.UsageError("use --csv or --json, not both")
    query: dict[str, object] = {name: value for name, value in filters.items() if value is not None}
    if since is not None:
        query["since"] = f"{since:.6f}"
    entries, more = _newest(client, query, limit)
    if as_csv:
        sys.stdout.writelines(csv_lines(COLUMNS, map(_csv_row, entries)))
    else:
        show(entries, partial(_show_entries, more=more, console=console), as_json=as_json)


def _newest(client: AdminClient, query: dict[str, object], limit: int) -> tuple[list[AuditEntry], bool]:
    """Read pages up to the limit. Returns the actions, and whether there are more."""
    found: list[AuditEntry] = []
    while True:
        page = client.audit({**query, "limit": min(PAGE_ENTRIES, limit - len(found))})
        found += page["entries"]
        if page["next"] is None or len(found) >= limit:
            return found, page["next"] is not None
        query["mark"] = page["next"]


def _show_entries(entries: list[AuditEntry], *, more: bool, console: Console) -> None:
    table = TerminalTable(
        *map(word_column, ("when", "action")),
        name_column("about"),
        word_column("operator"),
        name_column("address"),
        word_column("detail"),
        drop=("detail", "address", "operator", "when"),
    )
    for entry in entries:
        when = to_minutes(entry["at"])
        who = (entry["actor"], entry["address"])
        table.add_row(when, entry["action"], entry["subject"], *who, _detail(entry))
    if table:
        console.print(table)
    text = count(len(entries), "action") if entries else "no actions"
    console.print(plain(f"{text}; there are more (--limit)" if more else text), style="dim")


def _detail(entry: AuditEntry) -> str:
    """Return the detail in one line, without what is not set or zero."""
    parts = [_part(name, value) for name, value in entry["detail"].items() if value]
    if entry["valid_until"]:
        parts.append(f"until {to_minutes(entry['valid_until'])}")
    return "; ".join(parts)


def _part(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"{name} {', '.join(map(str, value))}"
    if name.endswith("_usd") and isinstance(value, int | float):
        return f"{name.removesuffix('_usd')} {exact_usd(value)}"
    return f"{name} {value}"


def _csv_row(entry: AuditEntry) -> dict[str, object]:
    row: dict[str, object] = {**entry}
    return {**row, "detail": json.dumps(entry["detail"]), "valid_until": entry["valid_until"] or ""}
