"""Answers that a browser saves as a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

from ridges_proxy.runtime.csv_cells import csv_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CSV = "text/csv; charset=utf-8"


def csv_response(file_name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    """A file with a header and one line a row. It is built before it is sent: no file ends in the middle.

    `file_name` is a constant of the page: it must not come from a request.
    """
    response = Response("".join(csv_lines(columns, rows)), content_type=CSV)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response
