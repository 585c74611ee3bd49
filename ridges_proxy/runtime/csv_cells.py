"""CSV that a spreadsheet reads as data: no text is a formula, and no text starts a new cell."""

from __future__ import annotations

import csv
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TEXT_PREFIX = "'"
"""Spreadsheets read a cell that begins with it as text."""

_FORMULA_STARTS = ("=", "+", "-", "\N{MINUS SIGN}", "@", "\t", "\r", "\n")
"""Source: https://owasp.org/www-community/attacks/CSV_Injection"""


class Usd(float):
    """An amount that is written with nine decimals: a spreadsheet may not read 1e-06 as a number."""

    def __str__(self) -> str:
        """Return the amount as a decimal."""
        return f"{self:.9f}"


def csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield the lines of a CSV: a header, and one line a row. A text may have the end of a line inside.

    Texts are quoted, because some spreadsheets also split at semicolons and tabs. Numbers are not.
    """
    writer = csv.writer(_Line(), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_cell(row[name]) for name in columns])


class _Line:
    """A file for `csv.writer`, whose `writerow` returns the result of `write`: the line."""

    def write(self, line: str) -> str:
        """Return the line."""
        return line


def _cell(value: object) -> object:
    return safe_text(value) if isinstance(value, str) else value


def safe_text(text: str) -> str:
    """Return the text, with a prefix if a spreadsheet could read it as a formula.

    Some spreadsheets ignore spaces at the start, and read full-width and small forms like the ASCII ones.
    NFKC replaces those forms.
    """
    plain = unicodedata.normalize("NFKC", text)
    visible = "".join(char for char in plain if unicodedata.category(char) != "Cf").lstrip()
    return (
        TEXT_PREFIX + text
        if plain.startswith(_FORMULA_STARTS) or visible.startswith(_FORMULA_STARTS)
        else text
    )
