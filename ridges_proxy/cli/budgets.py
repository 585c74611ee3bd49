"""`ridges-proxy budgets …`: check, show and change the budgets that several runs share.

`flask budgets …` is the same. It is an entry point, so it loads no app and needs no CHUTES_API_KEY.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ridges_proxy.cli import level_tables
from ridges_proxy.cli.budget_tables import budget_document, show_budgets
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_group import amount, command, confirm, server_group, show
from ridges_proxy.cli.command_help import examples
from ridges_proxy.cli.terminal import wide_option
from ridges_proxy.config import BudgetSettings, SettingsError, load_settings, read_environment
from ridges_proxy.config.budget_entries import NAME, NAME_FORM
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ridges_proxy.cli.client import AdminClient

Command = TypeVar("Command", bound="Callable[..., None]")

budgets = server_group(
    "budgets",
    "Check BUDGETS, and show and change budgets on the running server.",
    "nothing was reset. For check: the budgets have problems",
    examples("ridges-proxy budgets list", "ridges-proxy budgets set miner 7.50 --group miner:1"),
)


def _name(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not NAME.fullmatch(value):  # others would be part of the URL
        raise click.BadParameter(f"the name of a budget is {NAME_FORM}")
    return value


_name_argument = click.argument("name", metavar="NAME", callback=_name)


def _page_options(function: Command) -> Command:
    for option in (
        click.option(
            "--limit",
            metavar="N",
            type=click.IntRange(1, MAX_LIST_LIMIT),
            help="Levels to show. Default: 100.",
        ),
        click.option(
            "--offset", metavar="N", type=click.IntRange(0, MAX_LIST_OFFSET), help="Number of levels to skip."
        ),
        click.option("--ended", is_flag=True, help="Also periods that ended within the last day."),
        click.option("--scope", metavar="TEXT", help="Only levels whose scope contains this text."),
    ):
        function = option(function)
    return function


def _scope_options(function: Command) -> Command:
    for option in (
        click.option("--scope", metavar="SCOPE", help="Only this scope, as `budgets list` shows it."),
        click.option("--group", metavar="GROUP", help="Only this group, such as miner:1."),
    ):
        function = option(function)
    return function


@command(budgets, "list", "ridges-proxy budgets list --ended", "ridges-proxy budgets list --scope miner:1")
@click.option("--budget", metavar="NAME", help="Only this budget.")
@_page_options
@wide_option
def list_budgets(client: AdminClient, *, as_json: bool, console: Console, **query: str | int | None) -> None:
    """Show what is spent, held and left of each budget.

    The present periods of the budgets are shown. A row is a level: a budget for one scope, such as one group.
    The levels that have spent most come first. The bar is what is spent and held of the amount.
    """
    show_table = partial(level_tables.show_page, console=console, is_search=query["scope"] is not None)
    show(client.budgets(_query(query)), show_table, as_json=as_json)


@command(budgets, "show", "ridges-proxy budgets show miner", "ridges-proxy budgets show miner --limit 20")
@_name_argument
@_page_options
@wide_option
def show_budget(
    client: AdminClient, *, name: str, as_json: bool, console: Console, **query: str | int | None
) -> None:
    """Show one budget, its levels, and amounts set by operators."""
    show_table = partial(level_tables.show_budget, console=console)
    show(client.budget(name, _query(query)), show_table, as_json=as_json)


@command(
    budgets,
    "set",
    "ridges-proxy budgets set miner 7.50 --group miner:1",
    "ridges-proxy budgets set miner --default",
)
@_name_argument
@click.argument("usd", required=False, callback=amount)
@click.option("--default", "is_default", is_flag=True, help="Remove the set amount: as in BUDGETS again.")
@_scope_options
def set_amount(  # noqa: PLR0913 - one parameter for each option
    client: AdminClient,
    *,
    name: str,
    usd: str | None,
    is_default: bool,
    group: str | None,
    scope: str | None,
    as_json: bool,
) -> None:
    """Set the amount of a budget, in place of the one in BUDGETS.

    It is in USD. It is in force at once, on all servers that share the ledger, and until it is removed with
    --default. With --group or --scope, it is the amount of that group or scope only. What is spent stays.
    """
    if is_default == (usd is not None):
        raise click.UsageError("give an amount in USD, or --default")
    after = client.set_amount(name, {"usd": usd, **_scope(group, scope)})
    show(after, lambda found: level_tables.show_amount(found, group or scope), as_json=as_json)


@command(
    budgets,
    "reset",
    "ridges-proxy budgets reset all",
    "ridges-proxy budgets reset miner --group miner:1 --yes",
)
@_name_argument
@_scope_options
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset(  # noqa: PLR0913 - one parameter for each option
    client: AdminClient, *, name: str, group: str | None, scope: str | None, yes: bool, as_json: bool
) -> None:
    """Set what is spent in a budget's present period to zero.

    Asks for confirmation. With --group or --scope, only that group or scope. Holds of calls in flight stay
    and are charged when the calls end. What the runs have spent of their own budgets stays.

    With --json, prints the levels before the reset.
    """
    named = _scope(group, scope)
    if not yes:
        budget = client.budget(name, {"limit": MAX_LIST_LIMIT})
        confirm(level_tables.reset_question(budget, group or scope), "Nothing was reset")
    show(client.reset_budget(name, named), level_tables.show_reset, as_json=as_json)


def _query(options: dict[str, str | int | None]) -> dict[str, object]:
    return {
        name: 1 if value is True else value
        for name, value in options.items()
        if value is not None and value is not False
    }


def _scope(group: str | None, scope: str | None) -> dict[str, object]:
    if group is not None and scope is not None:
        raise click.UsageError("use --group or --scope, not both")
    named = {"group": group, "scope": scope}
    return {name: value for name, value in named.items() if value is not None}


@budgets.command(
    "check", epilog=examples("ridges-proxy budgets check", "ridges-proxy budgets check budgets.toml --json")
)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@wide_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(context: click.Context, *, file: Path | None, as_json: bool, console: Console) -> None:
    """Check BUDGETS, or a JSON or TOML file, and print the budgets.

    They are printed with their present periods. The command reads the settings as the server does, but only
    those about budgets and models. It needs no running server and no key. It prints all problems. The exit
    status is 0 if there are none, 1 if there are some, and 2 if there is no such file.
    """
    try:
        environ = read_environment()
        named = environ if file is None else {**environ, "BUDGETS": str(file.absolute())}
        found = load_settings(BudgetSettings, named).budgets
    except SettingsError as error:
        for problem in error.problems:
            click.echo(visible(problem), err=True)
        context.exit(1)
    now = time.time()
    if as_json:
        click.echo(json.dumps([budget_document(budget, now) for budget in found]))
    else:
        show_budgets(found, now, console)
