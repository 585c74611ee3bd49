"""`flask settings`: every setting, with its default and what it does. `make docs` writes it down."""

from __future__ import annotations

import dataclasses

import click

from ridges_proxy.config import REQUIRED, Settings

HEAD = """# Configuration

From the environment, or from a file `.env` in the folder where the server starts; the environment wins, and
what systemd hands over (`LoadCredential=`), a file for each setting, wins over both. All problems are told at
once when the server starts, by name; a name in `.env` that no setting has is warned of. SIGHUP reads them
again: if they have problems, the old ones stay. If only prices have changed, the running workers take them
over, nothing is forgotten, and calls in flight keep theirs. This page is made by `flask settings`.

| setting | default | what it does |
| --- | --- | --- |
"""


@click.command("settings")
def settings() -> None:
    """Print every setting, with its default and what it does, as a table in Markdown. Reads none of them."""
    click.echo(markdown(), nl=False)


def markdown() -> str:
    """The page: what is required first."""
    fields = sorted(dataclasses.fields(Settings), key=lambda field: field.metadata["default"] is not REQUIRED)
    return HEAD + "".join(_row(field) for field in fields)


def _row(field: dataclasses.Field[object]) -> str:
    default = field.metadata["default"]
    given = f"`{default}`" if default else "none"
    shown = "**required**" if default is REQUIRED else given
    text = field.metadata["text"].replace("|", "\\|")
    return f"| `{field.metadata['name']}` | {shown} | {text} |\n"
