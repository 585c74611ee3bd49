"""Tables of the dashboard as CSV files: the rows of all pages, with the filter and the order of the page."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.runtime.csv_cells import Usd
from ridges_proxy.runtime.iso_time import time_or_null
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import levels
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.budgets_page import level_query
from ridges_proxy.web.dashboard.overview import run_query
from ridges_proxy.web.dashboard.paging import MAX_CSV_ROWS
from ridges_proxy.web.run_context import list_runs
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask import Response

    from ridges_proxy.ledger import LevelUsage, RunQuery, RunUsage

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
    return _file("budgets.csv", LEVEL_COLUMNS, (_level_row(row.usage) for row in table.rows))


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
    return {
        "run_id": run.run_id,
        **_amounts(run, run.budget_nanousd),
        "calls": run.calls,
        "in_flight": run.in_flight,
        "idle_seconds": round(run.idle_seconds),
        "closed": run.closed,
        "finished": run.finished,
    }


def _level_row(usage: LevelUsage) -> dict[str, Any]:
    level = usage.level
    return {
        "budget": level.budget,
        "scope": level.scope,
        "window": level.window,
        "period": level.period,
        "resets_at": time_or_null(level.resets_at),
        **_amounts(usage, usage.amount_nanousd),
        "calls": usage.calls,
    }


def _amounts(usage: RunUsage | LevelUsage, most_nanousd: int) -> dict[str, Usd]:
    """The amounts, under the names that they have in the API."""
    amounts = {
        "used_cost_usd": usage.spent_nanousd,
        "held_cost_usd": usage.held_nanousd,
        "remaining_cost_usd": usage.remaining_nanousd,
        "max_cost_usd": most_nanousd,
    }
    return {name: Usd(usd_from_nanousd(amount)) for name, amount in amounts.items()}
