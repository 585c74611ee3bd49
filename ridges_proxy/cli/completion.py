"""`ridges-proxy completion`: the script with which a shell completes commands, options and choices."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ridges_proxy.cli.command_help import Command, examples

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "ridges-proxy"
VARIABLE = "_RIDGES_PROXY_COMPLETE"
"""The environment variable with which the script asks the program. Its name is click's."""


@click.command(
    "completion",
    cls=Command,
    epilog=examples('eval "$(ridges-proxy completion bash)"', "ridges-proxy completion fish | source"),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    It completes commands, options and choices. Each new shell has it with one line in its settings:

    \b
      bash  the first example, in ~/.bashrc
      zsh   the same with zsh in place of bash, in ~/.zshrc after compinit
      fish  the second example, in ~/.config/fish/config.fish
    """  # noqa: D301 - keeps click from wrapping these lines
    kind = get_completion_class(shell)
    if kind is None:  # click knows all of SHELLS
        raise click.UsageError(f"{shell} is not supported")
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
