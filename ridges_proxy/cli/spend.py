"""`ridges-proxy spend …`: show and reset the usage of runs on the running server.

`flask spend …` is the same. It is an entry point, so it loads no app and needs no CHUTES_API_KEY.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli import tables
from ridges_proxy.cli.command_group import amount, command, confirm, run_argument, server_group, show
from ridges_proxy.cli.command_help import examples
from ridges_proxy.cli.errors import ServerUnreachableError
from ridges_proxy.cli.history import print_csv, receipts_since, time_in_past
from ridges_proxy.cli.history_sums import By, print_sums_csv, show_sums, sums_json, sums_of
from ridges_proxy.cli.open_call_tables import show_open_calls
from ridges_proxy.cli.terminal import wide_option
from ridges_proxy.cli.watch import poll, show_live
from ridges_proxy.ledger import RunState, SortKey
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from rich.console import Console

    from ridges_proxy.cli.client import AdminClient


_state_option = click.option(
    "--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state."
)
spend = server_group(
    "spend",
    "Show and reset the usage of runs on the running server.",
    "nothing was reset",
    examples("ridges-proxy spend top", "ridges-proxy spend show agent-7"),
)


@command(
    spend,
    "list",
    "ridges-proxy spend list --in-flight --sort held",
    "ridges-proxy spend list --search agent --wide",
)
@click.option("--search", metavar="TEXT", help="Only runs whose id contains this text.")
@click.option(
    "--min-spent", metavar="USD", callback=amount, help="Only runs that have spent at least this amount."
)
@_state_option
@click.option(
    "--in-flight/--idle", default=None, help="Only runs with calls in flight, or only runs without."
)
@click.option(
    "--sort", type=click.Choice([key.value for key in SortKey]), help="Order of the runs. Default: spent."
)
@click.option(
    "--offset", metavar="N", type=click.IntRange(0, MAX_LIST_OFFSET), help="Number of runs to skip."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MAX_LIST_LIMIT),
    help="Number of runs to show. Default: 100.",
)
@wide_option
def list_runs(
    client: AdminClient, *, in_flight: bool | None, as_json: bool, console: Console, **query: str | int | None
) -> None:
    """List one page of runs. By default, the runs that spent most come first.

    A run is near its limit (`near`) from 80 % of its budget on.
    """
    query["min_spent_usd"] = query.pop("min_spent")
    query["in_flight"] = None if in_flight is None else str(in_flight).lower()
    page = client.runs({name: value for name, value in query.items() if value is not None})
    show(page, partial(tables.show_page, console=console), as_json=as_json)


@command(spend, "top", "ridges-proxy spend top", "ridges-proxy spend top -n 5 --json")
@click.option(
    "-n",
    "limit",
    metavar="N",
    type=click.IntRange(1, MAX_LIST_LIMIT),
    default=10,
    show_default=True,
    help="Number of runs to show.",
)
@_state_option
@wide_option
def top(client: AdminClient, *, limit: int, state: str | None, as_json: bool, console: Console) -> None:
    """Show the runs that spent most. The bar is the spent share of the budget."""
    only = {} if state is None else {"state": state}
    page = client.runs({"sort": SortKey.SPENT.value, "limit": limit, **only})
    show(page, partial(tables.show_top, console=console), as_json=as_json)


@command(
    spend, "watch", "ridges-proxy spend watch --every 5", "ridges-proxy spend watch --search agent --times 1"
)
@click.option(
    "--every",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Interval of the updates.",
)
@click.option(
    "--times", metavar="N", type=click.IntRange(1), help="Number of updates. Default: until Ctrl-C."
)
@click.option("--search", metavar="TEXT", help="Only runs whose id contains this text.")
@_state_option
@click.option(
    "--sort",
    type=click.Choice([key.value for key in SortKey]),
    default=SortKey.SPENT.value,
    show_default=True,
    help="Order of the runs.",
)
@click.option(
    "-n",
    "limit",
    metavar="N",
    type=click.IntRange(1, MAX_LIST_LIMIT),
    default=20,
    show_default=True,
    help="Number of runs.",
)
def watch_runs(
    client: AdminClient, *, seconds: float, times: int | None, as_json: bool, **query: str | int | None
) -> None:
    """Show the runs and update the table.

    The bar is the budget: what is spent, held (lighter) and left. With --json, prints one page of the
    server's JSON per line.
    """
    given = {name: value for name, value in query.items() if value is not None}
    pages = poll(client, given, seconds, times)
    if as_json:
        for page in pages:
            if isinstance(page, ServerUnreachableError):
                click.echo(page.message, err=True)
            else:
                click.echo(json.dumps(page))
    else:
        show_live(pages)


@command(spend, "calls", "ridges-proxy spend calls", "ridges-proxy spend calls --run agent-7 --wide")
@click.option("--run", metavar="RUN", help="Only calls of this run.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MAX_LIST_LIMIT),
    help="Number of calls to show. Default: 100.",
)
@wide_option
def list_calls(client: AdminClient, *, as_json: bool, console: Console, **query: str | int | None) -> None:
    """List the calls in flight, the oldest first.

    Each holds a part of its run's budget since it began. A call that waits for its hold is not listed. The
    next sweep charges a hold that has expired, unless its call ends before that.
    """
    page = client.open_calls({name: value for name, value in query.items() if value is not None})
    show(page, partial(show_open_calls, console=console), as_json=as_json)


@command(spend, "show", "ridges-proxy spend show agent-7", "ridges-proxy spend show agent-7 --json")
@run_argument
def show_run(client: AdminClient, *, run_id: str, as_json: bool) -> None:
    """Show the usage of one run, with amounts to the nano-USD."""
    show(client.run(run_id), tables.show_run, as_json=as_json)


@command(spend, "reset", "ridges-proxy spend reset agent-7", "ridges-proxy spend reset agent-7 --yes")
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset(client: AdminClient, *, run_id: str, yes: bool, as_json: bool) -> None:
    """Set the spent amount of a run to zero. Asks for confirmation.

    The run can then spend its budget again, unless it is closed: that is final. Holds of calls in flight stay
    and are charged when the calls end.

    With --json, prints the usage of the run before the reset.
    """
    if not yes:
        confirm(tables.reset_question(client.run(run_id)), "Nothing was reset")
    show(client.reset(run_id), tables.show_reset, as_json=as_json)


@command(
    spend,
    "history",
    "ridges-proxy spend history --since 7d --by model",
    "ridges-proxy spend history --since 2026-11-01 --csv",
)
@click.option(
    "--since",
    metavar="WHEN",
    callback=time_in_past,
    help="Only runs that were forgotten in the last 90m, 12h or 7d, or since a date.",
)
@click.option(
    "--by",
    type=click.Choice([each.value for each in By]),
    help="Sum the receipts: by model, by the UTC day of the last call, by group or by run.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@wide_option
def history(  # noqa: PLR0913 - one parameter for each option
    client: AdminClient, *, since: float | None, by: str | None, as_csv: bool, as_json: bool, console: Console
) -> None:
    """Show the receipts of forgotten runs, the oldest first.

    A ledger in memory:// keeps none. Runs that are not forgotten yet are in `spend list`; the dashboard's
    page Spend adds up both. With --by, a run with several groups counts for each of them.
    """
    if as_csv and as_json:
        raise click.UsageError("use --csv or --json, not both")
    receipts = receipts_since(client, since)
    if by is not None:
        sums = sums_of(receipts, By(by))
        if as_csv:
            print_sums_csv(sums, By(by))
        elif as_json:
            click.echo(json.dumps(sums_json(sums, By(by))))
        else:
            show_sums(sums, By(by), receipts, console)
    elif as_csv:
        print_csv(receipts)
    else:
        show(receipts, partial(tables.show_receipts, console=console), as_json=as_json)


@command(spend, "sweep", "ridges-proxy spend sweep", "ridges-proxy spend sweep --json")
def sweep(client: AdminClient, *, as_json: bool) -> None:
    """Sweep the ledger now: forget idle runs, and charge expired holds."""
    show(client.sweep(), tables.show_sweep, as_json=as_json)
