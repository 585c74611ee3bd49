"""Text for a terminal of any width, and the same text whole for a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.cells import cell_len, get_character_cell_size
from rich.console import Console
from rich.text import Text

from ridges_proxy.cli.client import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PIPE_COLUMNS = 4_000
"""Wider than any table: piped output, for grep, must not be folded."""

NAME_COLUMNS = 11


def terminal_console(*, wide: bool = False) -> Console:
    """Return a console for standard output. If `wide`, or if it is a pipe, it has room for everything."""
    console = Console(highlight=False, markup=False, emoji=False)
    if wide or not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console


def _console(_context: click.Context, _option: click.Parameter, wide: bool) -> Console:  # noqa: FBT001 - click's signature
    return terminal_console(wide=wide)


def wide_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option `--wide` to a command, which gets the console to print on as `console`."""
    text = "Show all columns and whole ids, however narrow the terminal is."
    return click.option("--wide", "console", is_flag=True, callback=_console, help=text)(function)


def plain(text: str) -> Text:
    """Return text that neither rich nor a terminal interprets."""
    return Text(visible(text))


def say(text: str) -> None:
    """Print a sentence. A terminal gets it in lines that break between words, so no amount is broken."""
    terminal_console().print(plain(text))


def print_rows(rows: Iterable[tuple[str, str]], console: Console, columns: int = NAME_COLUMNS) -> None:
    """Print names with their values, which begin at a column. Names are shorter than that."""
    for name, value in rows:
        print_indented(Text(f"{name:<{columns}}"), plain(value), console)


def print_indented(start: Text, text: Text, console: Console) -> None:
    """Print a text after its start. Its further lines are indented like its first."""
    room = max(1, console.width - cell_len(start.plain))
    for line in text.wrap(console, room, overflow="fold") or [Text()]:
        line.rstrip()
        console.print(start + line, soft_wrap=True)
        start = Text(" " * cell_len(start.plain))


def shortened(text: str, columns: int, mark: str) -> str:
    """Return the start and the end of a text with a mark between them, if it is wider than some columns."""
    if cell_len(text) <= columns:
        return text
    room = max(0, columns - len(mark))
    end = _start(text[::-1], room // 2)[::-1]
    return _start(text, room - cell_len(end)) + mark[:columns] + end


def _start(text: str, columns: int) -> str:
    """Return the longest start of a text that fits. Some characters take two columns."""
    used = 0
    for index, char in enumerate(text):
        used += get_character_cell_size(char)
        if used > columns:
            return text[:index]
    return text
