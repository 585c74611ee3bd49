"""`ridges-proxy settings`: all settings with their defaults. `make docs` writes its output to files."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.client import visible
from ridges_proxy.cli.command_help import Command, examples
from ridges_proxy.cli.settings_check import check_settings
from ridges_proxy.config import REQUIRED, Settings

if TYPE_CHECKING:
    from ridges_proxy.cli.settings_check import CheckedSettings

MARKDOWN_HEAD = """# Configuration

For operators: every setting, with its default, and where it is read.

The server and the commands read the settings from three places. A later one takes precedence:

1. The settings file: the path in the environment variable `SETTINGS_FILE`, or `.env` in the current folder.
   A file that `SETTINGS_FILE` names must exist.
2. The environment.
3. The folder that the environment variable `CREDENTIALS_DIRECTORY` names: one file for each setting, with its
   name. So keys can be secrets of systemd, Docker or Kubernetes.

At the start all problems are reported together, by name, and nothing starts. A name in the settings file or
in the folder that is not a setting causes a warning. `ridges-proxy settings --check` makes the same check.

`ridges-proxy reload PID` (as a service: `systemctl reload ridges-proxy`) makes the server read the file and
the folder again, and waits until all workers have the new settings. It fails if they have problems: the
previous settings stay in force. The environment of a process does not change, so values there need a restart.
If only `MODEL_PRICES` and `BUDGETS` have changed, the running workers load them: no run is forgotten, and
calls in flight keep their old prices. Workers that start later, for example after a crash, get the settings
that were accepted last.

`GET /admin/settings` has a digest of each setting that runs; `ridges-proxy doctor` compares them with those
that it reads. SIGHUP to the main process reloads as well, but nothing reports a refusal except the log.

This page is the output of `ridges-proxy settings`. [`.env.example`](../../.env.example) has the same settings
as a file to copy.

| setting | default | what it does |
| --- | --- | --- |
"""

ENV_HEAD = """# Settings of the Ridges AI Proxy. Copy this file to .env and fill in the keys at the top.
# Or name a file of this form in the environment variable SETTINGS_FILE.
# The environment takes precedence over this file. A line such as `# PORT=8000` shows a default.
# At the start all problems are reported together, by name.
# This file is the output of `ridges-proxy settings --env`.
"""

ENV_COLUMNS = 104

EXAMPLES = {"LEDGER_URL": "sqlite:///ridges-proxy.db"}
"""Settings that the example file sets to another value than the default."""


@click.command(
    "settings",
    cls=Command,
    epilog=examples("ridges-proxy settings --check", "ridges-proxy settings --env"),
)
@click.option("--env", "as_env", is_flag=True, help="Print a file to copy to .env instead of a table.")
@click.option("--check", "check", is_flag=True, help="Check the settings as the server does at its start.")
@click.pass_context
def settings(context: click.Context, *, as_env: bool, check: bool) -> None:
    """Print or check all settings.

    They are printed with their defaults and descriptions, as a table in Markdown. The command reads settings
    only with --check: from SETTINGS_FILE (default: .env in the current folder), the environment and
    CREDENTIALS_DIRECTORY. It opens the ledger, and prints all problems.

    \b
    Exit status:
      0  done; with --check: the settings are valid; there may be warnings
      1  with --check: they have problems
      2  wrong usage
    """  # noqa: D301 - keeps click from wrapping these lines
    if check:
        checked = check_settings()
        print_check(checked)
        if checked.problems:
            context.exit(1)
        click.echo("The settings are valid.")
        return
    click.echo(dotenv() if as_env else markdown(), nl=False)


def print_check(checked: CheckedSettings) -> None:
    """Print problems and warnings on standard error."""
    for problem in checked.problems:
        click.echo(visible(problem), err=True)
    for warning in checked.warnings:
        click.echo(f"Warning: {visible(warning)}", err=True)


def markdown() -> str:
    """Return docs/reference/configuration.md."""
    return MARKDOWN_HEAD + "".join(map(_row, _fields()))


def dotenv() -> str:
    """Return .env.example: required settings are left empty, most others are commented out."""
    return ENV_HEAD + "".join(map(_assignment, _fields()))


def _fields() -> list[dataclasses.Field[object]]:
    """Return the settings, required ones first."""
    return sorted(dataclasses.fields(Settings), key=lambda field: field.metadata["default"] is not REQUIRED)


def _row(field: dataclasses.Field[object]) -> str:
    default = field.metadata["default"]
    cell = "**required**" if default is REQUIRED else f"`{default}`" if default else "none"
    text = field.metadata["text"].replace("|", "\\|")
    return f"| `{field.metadata['name']}` | {cell} | {text} |\n"


def _assignment(field: dataclasses.Field[object]) -> str:
    name, default = field.metadata["name"], field.metadata["default"]
    example = EXAMPLES.get(name)
    default_text = f" This file sets it, so that a restart loses nothing. The default is {default}."
    text = textwrap.fill(
        field.metadata["text"] + (default_text if example else ""),
        ENV_COLUMNS,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    line = f"{name}=" if default is REQUIRED else f"{name}={example}" if example else f"# {name}={default}"
    return f"\n{text}\n{line}\n"
