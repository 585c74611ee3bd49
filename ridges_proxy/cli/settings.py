"""`ridges-proxy settings`: all settings with their defaults. `make docs` writes its output to files."""

from __future__ import annotations

import dataclasses
import textwrap

import click

from ridges_proxy.config import REQUIRED, Settings

MARKDOWN_HEAD = """# Configuration

The server reads its settings from the environment and from a file `.env` in the folder where it starts.
The environment takes precedence over `.env`. Credentials of systemd (`LoadCredential=`, one file for each
setting) take precedence over both.

At the start all problems are reported together, by name, and nothing starts. A name in `.env` that is not a
setting causes a warning.

SIGHUP reads the settings again. If they have problems, the old settings stay in force. If only
`MODEL_PRICES` has changed, the running workers load it: no run is forgotten, and calls in flight keep their
old prices.

This page is the output of `ridges-proxy settings`. [`.env.example`](../.env.example) has the same settings as
a file to copy.

| setting | default | what it does |
| --- | --- | --- |
"""

ENV_HEAD = """# Settings of the Ridges AI Proxy. Copy this file to .env and fill in the keys at the top.
# The environment takes precedence over this file. A line such as `# PORT=8000` shows a default.
# At the start all problems are reported together, by name.
# This file is the output of `ridges-proxy settings --env`.
"""

ENV_COLUMNS = 104

EXAMPLES = {"LEDGER_URL": "sqlite:///ridges-proxy.db"}
"""Settings that the example file sets to another value than the default."""


@click.command("settings")
@click.option("--env", "as_env", is_flag=True, help="Print a file to copy to .env instead of a table.")
def settings(*, as_env: bool) -> None:
    """Print all settings with their defaults and descriptions, as a table in Markdown.

    The command reads no settings.
    """
    click.echo(dotenv() if as_env else markdown(), nl=False)


def markdown() -> str:
    """Return docs/CONFIGURATION.md."""
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
