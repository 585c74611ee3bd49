"""`ridges-proxy budgets …`: check the budgets that several runs share.

`flask budgets …` is the same. It is an entry point, so it loads no app and needs no key.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from ridges_proxy.cli.budget_tables import budget_document, show_budgets
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_group import server_group
from ridges_proxy.config import BudgetSettings, SettingsError, load_settings, read_environment

budgets = server_group(
    "budgets",
    "Check the budgets of BUDGETS.",
    "nothing was changed. For check: the budgets have problems",
)


@budgets.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(context: click.Context, *, file: Path | None, as_json: bool) -> None:
    """Check BUDGETS, or a JSON or TOML file, and print the budgets with their present periods.

    The command reads the settings as the server does, but only those about budgets and models. It needs no
    running server and no key. It prints all problems. The exit status is 0 if there are none, else 1.
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
        show_budgets(found, now)
