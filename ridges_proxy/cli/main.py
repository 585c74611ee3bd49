"""The command `ridges-proxy`: the server, the demo and the operators' commands."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = (
    "budgets",
    "demo",
    "doctor",
    "fields",
    "ledger",
    "prices",
    "reload",
    "runs",
    "serve",
    "sessions",
    "settings",
    "spend",
)
"""Each is a command of the same name in the module of the same name."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used: some commands need the upstream client or gunicorn."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command and return it; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ridges_proxy.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=LazyGroup, no_args_is_help=True)
@click.version_option(package_name="ridges-proxy")
def main() -> None:
    """Run and operate the Ridges AI Proxy: each agent run has a hard spending limit."""
