"""The page of the runs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import render_template

from ridges_proxy.ledger import RunQuery
from ridges_proxy.web.dashboard import chart_data, figures, levels
from ridges_proxy.web.dashboard.blueprint import calls_url, dashboard, given_fields
from ridges_proxy.web.dashboard.facts import facts_of
from ridges_proxy.web.dashboard.intervals import intervals_of
from ridges_proxy.web.dashboard.paging import Paging, with_page_size
from ridges_proxy.web.dashboard.recent_calls import ERRORS
from ridges_proxy.web.dashboard.run_filters import filters_of
from ridges_proxy.web.dashboard.trouble import Upstream, troubles_of
from ridges_proxy.web.run_context import list_runs
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.ledger import RunPage, RunState

ALL_RUNS = RunQuery(limit=1)

_query = RunQuerySchema()


@dashboard.get("")
def overview() -> str:
    """Show totals, charts, the service's health, and one page of the runs."""
    given = given_fields()
    span = given["span"] if given.get("span") in chart_data.SPANS else "hour"
    query = run_query(given)
    started_at = time.monotonic()
    page = list_runs(query)
    largest = levels.largest_levels()
    totals = services().metrics.totals()
    samples = services().history.samples(chart_data.MAX_SPAN_SECONDS, totals)
    now, intervals = samples[-1].at, intervals_of(samples)
    facts = facts_of(totals, Upstream.of(intervals, now), largest, _counts_of_all(query, page))
    return render_template(
        "dashboard/overview.html",
        page=page,
        paging=Paging(query.offset, query.limit, len(page.runs), page.total),
        levels=largest,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        query=query,
        run_filters=filters_of(page, query),
        span=span,
        span_names=list(chart_data.SPANS),
        chart=_linked(chart_data.chart(span, intervals, now)),
        span_totals=figures.span_totals(intervals, now),
        totals=totals,
        facts=facts,
        troubles=troubles_of(facts),
    )


def run_query(given: dict[str, str]) -> RunQuery:
    """The runs that the fields of the page's query ask for. Raises InvalidRequestError."""
    of_runs = {name: text for name, text in given.items() if name != "span"}
    return RunQuery(**with_page_size(load(_query, of_runs, "query")))


def _linked(chart: dict[str, Any]) -> dict[str, Any]:
    """The data of the charts, with the URL of the calls of each error."""
    links = {
        name: calls_url(code=ERRORS if name == chart_data.OTHER_CODES else name)
        for name, _ in chart["errors"]
    }
    return {**chart, "links": links}


def _counts_of_all(query: RunQuery, page: RunPage) -> Mapping[RunState | None, int]:
    """The number of all runs in each state, whatever the page shows."""
    is_of_all = replace(query, state=None, sort=ALL_RUNS.sort, offset=0, limit=ALL_RUNS.limit) == ALL_RUNS
    return (page if is_of_all else list_runs(ALL_RUNS)).counts
