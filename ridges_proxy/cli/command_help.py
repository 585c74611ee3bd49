"""Commands and groups whose help ends with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click import Context, HelpFormatter


class _WithExamples(click.Command):
    """A command whose epilog has one example a line."""

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the examples as they are: a line that is broken cannot be copied."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_WithExamples):
    """A command whose help ends with examples."""


class Group(_WithExamples, click.Group):
    """A group whose help, and that of its commands, ends with examples."""

    command_class = Command


def examples(*lines: str) -> str:
    """Return the epilog of a command: one example a line."""
    return "\n".join(lines)
