"""`ridges-proxy runs …`: issue run tokens and close runs on the running server.

`flask runs …` is the same. It is an entry point, so it loads no app and needs no CHUTES_API_KEY.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from ridges_proxy.auth.token_claims import MAX_CALLS_PER_MINUTE, MAX_LIFETIME_SECONDS
from ridges_proxy.cli import tables
from ridges_proxy.cli.command_group import amount, command, confirm, run_argument, server_group, show
from ridges_proxy.cli.command_help import examples
from ridges_proxy.cli.errors import RunUnknownError

if TYPE_CHECKING:
    from ridges_proxy.cli.client import AdminClient

UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_DIGITS = 6


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Read a duration such as 90s, 40m, 2h or 7d. A number without a unit is seconds."""
    found = re.fullmatch(rf"([0-9]{{1,{MAX_DIGITS}}})([smhd]?)", value)
    seconds = int(found[1]) * UNIT_SECONDS[found[2]] if found else 0
    if not 1 <= seconds <= MAX_LIFETIME_SECONDS:
        raise click.BadParameter("must be a duration such as 90s, 40m, 2h or 7d (the maximum)")
    return seconds


runs = server_group(
    "runs",
    "Issue run tokens and close runs on the running server.",
    "nothing was closed",
    examples("ridges-proxy runs issue agent-7 --budget 2.50 --ttl 40m", "ridges-proxy runs close agent-7"),
)


@command(
    runs,
    "issue",
    "ridges-proxy runs issue agent-7 --budget 2.50 --ttl 40m",
    "ridges-proxy runs issue agent-8 --group miner:1 --calls-per-minute 30",
)
@run_argument
@click.option(
    "--budget", metavar="USD", callback=amount, help="Budget of the run. Default: MAX_COST_PER_RUN."
)
@click.option(
    "--ttl",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=_seconds,
    help="How long the token is valid.",
)
@click.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Model that the token allows; repeatable. Default: all.",
)
@click.option(
    "--calls-per-minute",
    metavar="N",
    type=click.IntRange(1, MAX_CALLS_PER_MINUTE),
    help="Maximum rate of calls.",
)
@click.option(
    "--group",
    "groups",
    metavar="GROUP",
    multiple=True,
    help="Group that the run belongs to; repeatable, at most 8.",
)
@click.option(
    "--reserve-final",
    metavar="USD",
    callback=amount,
    help="Part of the budget that is kept for calls with the header X-Final-Call: 1.",
)
def issue(  # noqa: PLR0913 - one parameter for each option
    client: AdminClient,
    *,
    run_id: str,
    budget: str | None,
    ttl: int,
    models: tuple[str, ...],
    calls_per_minute: int | None,
    groups: tuple[str, ...],
    reserve_final: str | None,
    as_json: bool,
) -> None:
    """Print a run token. With it an agent can spend on this run only.

    A model of the token that has no price on the server causes a warning.
    """
    limits = {
        "run_id": run_id,
        "ttl_seconds": ttl,
        "budget_usd": budget,
        "models": list(models) or None,
        "calls_per_minute": calls_per_minute,
        "groups": list(groups) or None,
        "reserve_final_usd": reserve_final,
    }
    issued = client.issue({name: value for name, value in limits.items() if value is not None})
    show(issued, tables.show_token, as_json=as_json)
    for model in issued.get("unpriced_models", ()):
        click.echo(tables.unpriced_warning(model), err=True)


@command(runs, "close", "ridges-proxy runs close agent-7", "ridges-proxy runs close agent-7 --yes --json")
@run_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def close(client: AdminClient, *, run_id: str, yes: bool, as_json: bool) -> None:
    """Close a run permanently, and print its usage. Asks first.

    Its calls in flight end and are charged for the part that was received. Its tokens become invalid at once.
    A run that has made no call can be closed, too; its id may be mistyped, so there is a warning.
    """
    is_known = _knows(client, run_id)
    if not yes:
        confirm(tables.close_question(run_id, is_known=is_known), "Nothing was closed")
    elif not is_known:
        click.echo(tables.unknown_run_warning(run_id), err=True)
    show(client.close(run_id), tables.show_receipt, as_json=as_json)


def _knows(client: AdminClient, run_id: str) -> bool:
    try:
        client.run(run_id)
    except RunUnknownError:
        return False
    return True
