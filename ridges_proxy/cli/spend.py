"""`flask spend …`: what runs have spent, asked from the running server.

Flask finds it by its entry point, before any app: it needs no Chutes key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ridges_proxy.cli import tables
from ridges_proxy.cli.group import amount, command, confirm, prepare_streams, run_argument, show
from ridges_proxy.ledger import SortKey
from ridges_proxy.web.schemas import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from ridges_proxy.cli.client import AdminClient


@click.group(no_args_is_help=True)
def spend() -> None:
    """Show and mend what runs have spent, at the running server.

    The server is found at PROXY_URL (http://127.0.0.1:8000 if not set) and asked with ADMIN_API_KEY;
    both are read from the environment or from .env in the current folder.

    \b
    Exit status:
      0  done
      1  not confirmed: nothing was reset
      2  wrong usage, or settings missing or wrong (ADMIN_API_KEY)
      3  the server does not answer at PROXY_URL
      4  the server refuses the key
      5  the server does not know the run
      6  any other refusal, or the answer is not the proxy's
    """  # noqa: D301 - click's mark for lines to keep
    prepare_streams()


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


@command(spend, "sweep")
def sweep(client: AdminClient, *, as_json: bool) -> None:
    """Sweep the ledger now. Forgets runs past their time, charges holds that nobody settled."""
    show(client.sweep(), tables.show_sweep, as_json=as_json)
