"""Tables that fit a terminal: ids are shortened, then columns are left out. Amounts are always whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rich.cells import cell_len
from rich.text import Text

from ridges_proxy.cli.client import visible
from ridges_proxy.cli.terminal import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

LEAST_TEXT = 12
"""Columns of the terminal that a shortened text keeps as long as another column can be left out."""

LEAST_BAR = 8

FLOOR = 4
"""Columns that a shortened text keeps when no further column can be left out."""


class Drawn(Protocol):
    """A cell that is drawn in the width of its column."""

    @property
    def columns(self) -> int:
        """The width that the cell is meant to have."""

    def text(self, columns: int, *, ascii_only: bool) -> Text:
        """Return the cell in a width."""


Cell = str | Text | Drawn


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Lines of its heading are separated by newlines."""

    heading: str
    least: int | None = None
    """Columns of the terminal to which its cells may be shortened; None: they are always whole."""
    is_right: bool = True

    @property
    def name(self) -> str:
        """The heading in one line; a bar has none."""
        return self.heading.replace("\n", " ") or "bar"


def number_column(heading: str) -> Column:
    """Return a column of amounts or other numbers. They are never shortened."""
    return Column(heading)


def word_column(heading: str) -> Column:
    """Return a column of short texts. They are never shortened."""
    return Column(heading, is_right=False)


def name_column(heading: str) -> Column:
    """Return a column of ids or names. They are shortened in the middle if there is no room."""
    return Column(heading, LEAST_TEXT, is_right=False)


def bar_column() -> Column:
    """Return a column of bars. It has no heading."""
    return Column("", LEAST_BAR, is_right=False)


class TerminalTable:
    """A table for `Console.print`.

    If its rows are wider than the console, names are shortened in the middle. If that is not enough, columns
    are left out, in the order of `drop`, and a line below the table names them, with the option that shows
    them. A column without any content is not shown.
    """

    def __init__(self, *columns: Column, drop: Sequence[str] = (), option: str = " (--wide)") -> None:
        self._columns = columns
        self._drop = drop
        self._option = option
        self._rows: list[tuple[Cell, ...]] = []

    def add_row(self, *cells: Cell) -> None:
        """Add a row with a cell for each column."""
        self._rows.append(cells)

    def __bool__(self) -> bool:
        """Return whether the table has rows."""
        return bool(self._rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of the table."""
        rows = [[_encoded(cell, options.encoding) for cell in row] for row in self._rows]
        natural = [
            max(map(_width, (*each.heading.split("\n"), *(row[index] for row in rows))))
            for index, each in enumerate(self._columns)
        ]
        filled = [index for index in range(len(natural)) if any(_width(row[index]) for row in rows)]
        widths, dropped = self._fitted(natural, filled or list(range(len(natural))), options.max_width)
        for line in self._headings(widths):
            yield _line(line, style="bold")
        for row in rows:
            cells = (
                _aligned(row[index], self._columns[index], columns, ascii_only=options.ascii_only)
                for index, columns in widths.items()
            )
            yield _line(cells)
        if dropped:
            yield Text(f"not shown: {', '.join(dropped)}{self._option}", style="dim")

    def _fitted(
        self, natural: Sequence[int], shown: Sequence[int], room: int
    ) -> tuple[dict[int, int], list[str]]:
        """Return the width of each column that is shown, by its index, and the names of those left out."""
        dropped: list[str] = []
        by_name = {self._columns[index].name: index for index in shown}
        for each in self._drop:
            widths = self._shrunk({index: natural[index] for index in by_name.values()}, room)
            if _total(widths) <= room:
                return widths, dropped
            if each in by_name:
                del by_name[each]
                dropped.append(each)
        return self._shrunk({index: natural[index] for index in by_name.values()}, room, FLOOR), dropped

    def _shrunk(self, widths: dict[int, int], room: int, floor: int | None = None) -> dict[int, int]:
        """Shorten the widest of the columns that may be shortened, until the table fits or none is left."""
        least = {
            index: self._columns[index].least if floor is None else floor
            for index in widths
            if self._columns[index].least is not None
        }
        for _ in range(_total(widths) - room):
            longer = [index for index, columns in least.items() if widths[index] > (columns or 0)]
            if not longer:
                break
            widths[max(longer, key=widths.__getitem__)] -= 1
        return widths

    def _headings(self, widths: dict[int, int]) -> Iterator[list[Text]]:
        lines = {index: self._columns[index].heading.split("\n") for index in widths}
        height = max(map(len, lines.values()))
        for number_of_line in range(height):
            yield [
                _aligned(
                    ([""] * (height - len(lines[index])) + lines[index])[number_of_line],
                    self._columns[index],
                    columns,
                    ascii_only=False,
                )
                for index, columns in widths.items()
            ]


def _encoded(cell: Cell, encoding: str) -> Cell:
    """Return a cell whose text has only characters that the terminal shows."""
    if isinstance(cell, str):
        return visible(cell).encode(encoding, "backslashreplace").decode(encoding)
    return cell


def _width(cell: Cell) -> int:
    if isinstance(cell, str | Text):
        return cell_len(str(cell))
    return cell.columns


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(widths) - 1


def _aligned(cell: Cell, column: Column, columns: int, *, ascii_only: bool) -> Text:
    if isinstance(cell, str):
        cell = Text(shortened(cell, columns, "..." if ascii_only else "…"))
    elif not isinstance(cell, Text):
        cell = cell.text(columns, ascii_only=ascii_only)
    padding = Text(" " * (columns - cell_len(cell.plain)))
    return padding + cell if column.is_right else cell + padding


def _line(cells: Iterator[Text] | list[Text], style: str = "") -> Text:
    line = Text(" ", no_wrap=True, overflow="ignore").join(cells)
    line.rstrip()
    line.stylize(style)
    return line
