"""The page of the recent calls of all runs, and its CSV."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import render_template

from ridges_proxy.errors import ProxyError
from ridges_proxy.runtime.csv_cells import Usd
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import figures
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.open_calls import open_calls
from ridges_proxy.web.dashboard.recent_calls import ERRORS, OK, UPSTREAM, CallPage, CallQuery, with_nanousd
from ridges_proxy.web.refused_requests import classes_of
from ridges_proxy.web.schemas.recent_call_query import RecentCallQuerySchema
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

MAX_DETAILED = 5
"""If a search for a request finds at most so many calls, all fields of each are shown. Several calls may have
one id: a client chooses it."""

COLUMNS = (
    "ended_at",
    "run",
    "route",
    "model",
    "status",
    "code",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "needed_usd",
    "remaining_usd",
    "budget",
    "scope",
    "milliseconds",
    "request_id",
)

CODES = (ERRORS, UPSTREAM, OK, *sorted({each.code for each in classes_of(ProxyError)}))
"""The codes that the form offers."""

_query = RecentCallQuerySchema()


@dashboard.get("/calls")
def show_calls() -> str:
    """Show the calls in flight, and one page of the recent calls that match the query.

    A search for a single request shows all its fields.
    """
    filters = given_fields()
    query = CallQuery(**load(_query, filters, "query"))
    started_at = time.monotonic()
    page = services().recent_calls.search(query)
    in_flight = open_calls(query.run or None) if filters.keys() <= {"run"} else None
    return render_template(
        "dashboard/calls.html",
        calls=[with_nanousd(call) for call in page.calls],
        has_older=page.has_older,
        in_flight=in_flight,
        query=query,
        filters=filters,
        codes=CODES if query.code in {"", *CODES} else (*CODES, query.code),
        detailed=page.calls if query.request and len(page.calls) <= MAX_DETAILED else [],
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
    )


@dashboard.get("/calls.csv")
def calls_csv() -> Response:
    """The same page of calls as a file."""
    page = services().recent_calls.search(CallQuery(**load(_query, given_fields(), "query")))
    return csv_response("calls.csv", COLUMNS, _csv_rows(page))


def _csv_rows(page: CallPage) -> list[dict[str, Any]]:
    return [{name: _cell(name, call) for name in COLUMNS} for call in page.calls]


def _cell(name: str, call: dict[str, Any]) -> object:
    """A field of a call. One that is null, or that only other calls have, is empty."""
    if name == "ended_at":
        return datetime.fromtimestamp(call["at"], UTC).isoformat(timespec="milliseconds")
    value = call.get(name)
    if value is None:
        return ""
    return Usd(value) if name.endswith("_usd") else value
