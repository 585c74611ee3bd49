"""Answers that a browser saves as a CSV file."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from flask import Response

from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.runtime.csv_cells import csv_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

CSV = "text/csv; charset=utf-8"

LINES_PER_PAUSE = 200
"""Lines that are made between two pauses: 2 to 5 ms, with long ids."""


def csv_response(file_name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    """A file with a header and one line a row. It is built before it is sent: no file ends in the middle.

    `file_name` is made of constants of the page: no free text of a request may be in it.
    """
    response = Response("".join(_with_pauses(csv_lines(columns, rows))), content_type=CSV)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response


def _with_pauses(lines: Iterator[str]) -> Iterator[str]:
    """The lines in parts, between which other requests are served: a file may have 10,000 lines."""
    while part := "".join(islice(lines, LINES_PER_PAUSE)):
        yield part
        pause()
