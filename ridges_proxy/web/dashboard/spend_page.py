"""The page of the spend by day, model and group, and its CSV."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import render_template

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.config.ledger_url import MEMORY
from ridges_proxy.errors import OverloadedError
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.runtime.csv_cells import Usd
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import figures
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.spend_report import MAX_KNOWN_RUNS
from ridges_proxy.web.dashboard.spend_sums import SpendSums, Sum, largest
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.spend_query import PARTS, SPANS_DAYS, SpendFileQuerySchema, SpendQuerySchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Response

MAX_ROWS = 100
"""Models and groups that the page shows, those with the most spent. The file has all."""

WAITING_REFRESH_SECONDS = 2

_query = SpendQuerySchema()
_file_query = SpendFileQuerySchema()


@dataclass(frozen=True, slots=True)
class SpendRow:
    """One row of a table."""

    name: str | None
    """None: no model is known, or the run has no group."""
    sum: Sum
    percent: float
    """Length of its bar: that of the largest row is 100."""


@dataclass(frozen=True, slots=True)
class SpendTable:
    """One table."""

    rows: list[SpendRow]
    """The first MAX_ROWS."""
    total: int
    """How many sums there are."""


@dashboard.get("/spend")
def show_spend() -> str:
    """Show the sums of the last days by day, model and group."""
    days: int = load(_query, given_fields(), "query").get("days", SPANS_DAYS[0])
    report = services().spend_reports.latest()
    settings = services().settings
    sums = report.of_last_days(days) if report else SpendSums()
    return render_template(
        "dashboard/spend.html",
        report=report,
        days=days,
        spans=SPANS_DAYS,
        total=sums.total,
        tables={part: _table(part, sums, report.last_days(days)) for part in PARTS} if report else {},
        max_known_runs=MAX_KNOWN_RUNS,
        receipts_read=services().spend_reports.receipts,
        receipt_days=0 if settings.ledger_url == MEMORY else settings.receipt_days,
        refresh_seconds=figures.refresh_seconds(report.took_seconds) if report else WAITING_REFRESH_SECONDS,
    )


@dashboard.get("/spend.csv")
def spend_csv() -> Response:
    """The sums of the last days as a file. Raises OverloadedError if they are not ready yet."""
    query: dict[str, Any] = {
        "days": SPANS_DAYS[0],
        "by": PARTS[0],
        **load(_file_query, given_fields(), "query"),
    }
    report = services().spend_reports.latest()
    if report is None:
        raise OverloadedError
    part, days = query["by"], query["days"]
    columns = (part, "runs", "calls", "prompt_tokens", "completion_tokens", "used_cost_usd")
    rows = (
        {
            part: name or "",
            "runs": each.runs,
            "calls": each.calls,
            "prompt_tokens": each.prompt_tokens,
            "completion_tokens": each.completion_tokens,
            "used_cost_usd": Usd(usd_from_nanousd(each.cost_nanousd)),
        }
        for name, each in _sums_of(part, report.of_last_days(days), report.last_days(days))
    )
    return csv_response(f"spend-by-{part}-{query['days']}-days.csv", columns, rows)


def _table(part: str, sums: SpendSums, days: Sequence[tuple[int, SpendSums]]) -> SpendTable:
    found = _sums_of(part, sums, days)
    shown = found[:MAX_ROWS]
    most_nanousd = max((each.cost_nanousd for _, each in shown), default=0) or 1
    rows = [SpendRow(name, each, 100 * each.cost_nanousd / most_nanousd) for name, each in shown]
    return SpendTable(rows, len(found))


def _sums_of(
    part: str, sums: SpendSums, days: Sequence[tuple[int, SpendSums]]
) -> list[tuple[str | None, Sum]]:
    """The sums of all days, the newest first, or of models or groups, the largest cost first."""
    if part == "day":
        return [(_day_text(day), of_day.total) for day, of_day in reversed(days)]
    return largest(sums.models if part == "model" else sums.groups)


def _day_text(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_SECONDS, UTC):%Y-%m-%d}"
