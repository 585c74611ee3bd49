"""Tables of the dashboard as CSV files: the rows of all pages, with the filter and the order of the page."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ridges_proxy.runtime.csv_cells import Usd
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import levels
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.budgets_page import level_query
from ridges_proxy.web.dashboard.overview import run_query
from ridges_proxy.web.dashboard.paging import MAX_CSV_ROWS
from ridges_proxy.web.run_context import list_runs
from ridges_proxy.web.run_json import level_json, usage_json
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask import Response

    from ridges_proxy.ledger import RunQuery, RunUsage

RUN_COLUMNS = (
    "run_id",
    "used_cost_usd",
    "held_cost_usd",
    "remaining_cost_usd",
    "max_cost_usd",
    "calls",
    "in_flight",
    "idle_seconds",
    "closed",
    "finished",
)
LEVEL_COLUMNS = (
    "budget",
    "scope",
    "window",
    "period",
    "resets_at",
    "used_cost_usd",
    "held_cost_usd",
    "remaining_cost_usd",
    "max_cost_usd",
    "calls",
)


@dashboard.get("/runs.csv")
def runs_csv() -> Response:
    """The runs of all pages."""
    return _file("runs.csv", RUN_COLUMNS, map(_run_row, _all_runs(run_query(given_fields()))))


@dashboard.get("/budgets.csv")
def budgets_csv() -> Response:
    """The levels of all pages."""
    query, state = level_query(given_fields())
    table = levels.table_of(replace(query, offset=0, limit=MAX_CSV_ROWS + 1), state)
    return _file("budgets.csv", LEVEL_COLUMNS, (_with_decimals(level_json(row.usage)) for row in table.rows))


def _file(name: str, columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> Response:
    """The file. Its last line says so if there are more rows."""
    shown = list(islice(rows, MAX_CSV_ROWS))
    if next(rows, None) is not None:
        end = f"only the first {MAX_CSV_ROWS} rows: there are more"
        shown.append(dict.fromkeys(columns, "") | {columns[0]: end})
    return csv_response(name, columns, shown)


def _all_runs(query: RunQuery) -> Iterator[RunUsage]:
    """The runs of all pages. A question to the ledger costs no more than one of the API.

    A run that moves to another page while the pages are read comes once.
    """
    seen: set[str] = set()
    for offset in range(0, MAX_LIST_OFFSET + 1, MAX_LIST_LIMIT):
        page = list_runs(replace(query, offset=offset, limit=MAX_LIST_LIMIT))
        for run in page.runs:
            if run.run_id not in seen:
                seen.add(run.run_id)
                yield run
        if offset + MAX_LIST_LIMIT >= page.total:
            return


def _run_row(run: RunUsage) -> dict[str, Any]:
    state = {"in_flight": run.in_flight, "closed": run.closed, "finished": run.finished}
    return _with_decimals(usage_json(run)) | state | {"idle_seconds": round(run.idle_seconds)}


def _with_decimals(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the API, with its amounts in the form of the file."""
    return {name: Usd(value) if name.endswith("_usd") else value for name, value in row.items()}
