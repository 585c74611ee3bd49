"""The command `ridges-proxy`: the server, the demo and the operators' commands."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ridges_proxy.cli.command_help import Group, examples

if TYPE_CHECKING:
    from click import Context, HelpFormatter

COMMANDS = {
    "audit": "Show what operators have done: who, when and from where.",
    "budgets": "Check, show and change the budgets that several runs share.",
    "completion": "Print the script that completes commands in a shell.",
    "demo": "Start the proxy in front of a fake Chutes, to try it.",
    "doctor": "Check an installation, with advice for each problem.",
    "fields": "Print what happens to each field of a request.",
    "ledger": "Check, verify and migrate the ledger, or compare a bill with it.",
    "prices": "Show the configured prices, or compare them with the upstream's.",
    "reload": "Let the running server read its settings again.",
    "runs": "Issue run tokens and close runs on the running server.",
    "serve": "Start the proxy.",
    "sessions": "List and end the sessions of operators in the dashboard.",
    "settings": "Print or check all settings.",
    "spend": "Show and reset the usage of runs on the running server.",
}
"""Each is a command of the same name in the module of the same name. The texts are here so that the help and
the completion of a shell need not import the modules."""


class LazyGroup(Group):
    """A group that imports a command when it is used: some commands need the upstream client or gunicorn."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command and return it; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ridges_proxy.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the names of all commands with their texts."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with a text."""
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items()]
        found = [item for item in commands if item.value.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    no_args_is_help=True,
    epilog=examples("ridges-proxy demo", "ridges-proxy spend top"),
)
@click.version_option(package_name="ridges-proxy")
def main() -> None:
    """Run and operate the Ridges AI Proxy: each agent run has a hard spending limit."""
