"""`flask spend …`: what runs have spent, asked from the running server.

Flask finds it by its entry point, before any app: it needs no Chutes key.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli import tables
from ridges_proxy.cli.command_group import amount, command, confirm, run_argument, server_group, show
from ridges_proxy.cli.errors import ServerUnreachableError
from ridges_proxy.cli.history import moment, receipts_since, write_csv
from ridges_proxy.cli.watch import looks, show_live
from ridges_proxy.ledger import SortKey
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from ridges_proxy.cli.client import AdminClient


spend = server_group(
    "spend", "Show and mend what runs have spent, at the running server.", "nothing was reset"
)


@command(spend, "list")
@click.option("--search", metavar="TEXT", help="Runs whose id has this text in it.")
@click.option("--min-spent", metavar="USD", callback=amount, help="Runs that have spent at least this.")
@click.option("--in-flight/--idle", default=None, help="Runs with calls in flight, or without.")
@click.option(
    "--sort", type=click.Choice([key.value for key in SortKey]), help="The order; spent if not given."
)
@click.option("--offset", type=click.IntRange(0, MAX_LIST_OFFSET), help="How many runs to pass over.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIST_LIMIT), help="How many runs to show; 100 if not given."
)
def list_runs(
    client: AdminClient, *, in_flight: bool | None, as_json: bool, **query: str | int | None
) -> None:
    """List runs, one page. Those that spent most come first unless sorted."""
    query["min_spent_usd"] = query.pop("min_spent")
    query["in_flight"] = None if in_flight is None else str(in_flight).lower()
    page = client.runs({name: value for name, value in query.items() if value is not None})
    show(page, tables.show_page, as_json=as_json)


@command(spend, "top")
@click.option(
    "-n",
    "limit",
    type=click.IntRange(1, MAX_LIST_LIMIT),
    default=10,
    show_default=True,
    help="How many runs to show.",
)
def top(client: AdminClient, *, limit: int, as_json: bool) -> None:
    """Show the runs that spent most. The bar is the share of the cap that is spent."""
    page = client.runs({"sort": SortKey.SPENT.value, "limit": limit})
    show(page, tables.show_top, as_json=as_json)


@command(spend, "watch")
@click.option(
    "--every", "seconds", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds."
)
@click.option("--times", type=click.IntRange(1), help="How often; until Ctrl-C if not given.")
@click.option("--search", metavar="TEXT", help="Runs whose id has this text in it.")
@click.option(
    "--sort",
    type=click.Choice([key.value for key in SortKey]),
    default=SortKey.SPENT.value,
    show_default=True,
    help="The order.",
)
@click.option(
    "-n", "limit", type=click.IntRange(1, MAX_LIST_LIMIT), default=20, show_default=True, help="How many."
)
def watch_runs(
    client: AdminClient, *, seconds: float, times: int | None, as_json: bool, **query: str | int | None
) -> None:
    """Show the runs, live. The bar is the cap: spent, held (lighter), and what remains.

    With --json, one page of the server's JSON a line.
    """
    asked = {name: value for name, value in query.items() if value is not None}
    found = looks(client, asked, seconds, times)
    if as_json:
        for page in found:
            if isinstance(page, ServerUnreachableError):
                click.echo(page.message, err=True)
            else:
                click.echo(json.dumps(page))
    else:
        show_live(found)


@command(spend, "show")
@run_argument
def show_run(client: AdminClient, *, run_id: str, as_json: bool) -> None:
    """Show one run, amounts to the nano-USD."""
    show(client.run(run_id), tables.show_run, as_json=as_json)


@command(spend, "reset")
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(client: AdminClient, *, run_id: str, yes: bool, as_json: bool) -> None:
    """Set a run's spend to zero. Asks first: the run may then spend its cap once more.

    Calls in flight stay held and are charged when they end.
    With --json, prints the run's books as they were before.
    """
    if not yes:
        confirm(tables.reset_question(client.run(run_id)), "Nothing was reset")
    show(client.reset(run_id), tables.show_reset, as_json=as_json)


@command(spend, "history")
@click.option(
    "--since", metavar="WHEN", callback=moment, help="Forgotten since 7d (12h, 90m) ago, or a date."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def history(client: AdminClient, *, since: float | None, as_csv: bool, as_json: bool) -> None:
    """Show what forgotten runs had spent, the earliest first. With memory:// there is nothing to show."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    receipts = receipts_since(client, since)
    if as_csv:
        write_csv(receipts)
    else:
        show(receipts, tables.show_receipts, as_json=as_json)


@command(spend, "sweep")
def sweep(client: AdminClient, *, as_json: bool) -> None:
    """Sweep the ledger now. Forgets runs past their time, charges holds that nobody settled."""
    show(client.sweep(), tables.show_sweep, as_json=as_json)
