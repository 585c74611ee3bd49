"""The dashboard's pages and actions. All work without JavaScript; with it, open pages refresh themselves."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask_wtf.csrf import generate_csrf

from ridges_proxy.errors import InternalError, InvalidApiKeyError, InvalidRequestError, ProxyError
from ridges_proxy.ledger import LevelQuery, RunQuery, RunUsage
from ridges_proxy.ledger.outcome import ended_by
from ridges_proxy.web import run_actions
from ridges_proxy.web.dashboard import access, figures, levels
from ridges_proxy.web.dashboard.history import DAY_SECONDS
from ridges_proxy.web.run_context import with_present_budget, with_present_levels
from ridges_proxy.web.run_json import token_json
from ridges_proxy.web.schemas.agents import UsageSchema
from ridges_proxy.web.schemas.budget_query import BudgetQuerySchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.schemas.run_query import MAX_LIST_OFFSET, RunQuerySchema
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

PAGE_RUNS = 50
PAGE_LEVELS = 50
MAX_RUN_CALLS = 100
"""How many of a run's latest calls its page shows."""

SECONDS_PER_MINUTE = 60

_TEXT_FIELDS = ("run_id", "budget_usd", "reserve_final_usd")
"""Fields of the form for tokens that IssueSchema reads as they are."""

dashboard = Blueprint(
    "dashboard", __name__, url_prefix="/dashboard", template_folder="templates", static_folder="static"
)
dashboard.before_request(access.check_access)
dashboard.after_request(access.add_security_headers)

_query = RunQuerySchema()
_run = UsageSchema()
_levels = BudgetQuerySchema(only=("budget", "offset", "limit"))
_issue = IssueSchema()


@dashboard.context_processor
def template_context() -> dict[str, Any]:
    """Functions and values that the templates use."""
    return {
        "usd": figures.usd,
        "number_text": figures.number_text,
        "duration_text": figures.duration_text,
        "time_text": figures.time_text,
        "bar_of": figures.Bar.of,
        "csrf_token": generate_csrf,
        "models": sorted(services().prices.prices),
        "can_issue": services().run_tokens.can_issue,
    }


@dashboard.get("")
def overview() -> str:
    """Show totals, charts, the service's health, and one page of the runs."""
    given = _given_fields()
    span = given.pop("span", "hour")
    span = span if span in figures.SPANS else "hour"
    query = RunQuery(**{"limit": PAGE_RUNS, **load(_query, given, "query")})
    started_at = time.monotonic()
    page = services().ledger.list(query)
    page = replace(page, runs=[with_present_budget(usage) for usage in page.runs])
    largest = levels.largest_levels()
    totals = services().metrics.totals()
    samples = services().history.samples(DAY_SECONDS, totals)
    return render_template(
        "dashboard/overview.html",
        page=page,
        levels=largest,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        query=query,
        span=span,
        span_names=list(figures.SPANS),
        chart=figures.chart(span, samples),
        span_totals=figures.span_totals(samples),
        totals=totals,
        health=figures.health(samples),
        page_url=_page_url,
    )


@dashboard.get("/budgets")
def show_budgets() -> str:
    """Show one page of the levels of all budgets, or of one budget, in their present periods."""
    query = LevelQuery(**{"limit": PAGE_LEVELS, **load(_levels, _given_fields(), "query")})
    started_at = time.monotonic()
    table = levels.table_of(query)
    return render_template(
        "dashboard/budgets.html",
        levels=table,
        names=services().calls.budgets.names,
        query=query,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        max_offset=MAX_LIST_OFFSET,
        page_url=_page_url,
    )


@dashboard.get("/run")
def show_run() -> str:
    """Show one run's usage and its latest calls; zeros for a run that the ledger does not know."""
    run_id = _run_id_of(query_fields(request.args))
    usage = services().ledger.usage(run_id)
    (run,) = with_present_levels([with_present_budget(usage or RunUsage(run_id, 0))])
    return render_template(
        "dashboard/run.html",
        run=run,
        levels=levels.rows_of(run.levels),
        refused=_refused(usage),
        ended_by=usage and ended_by(usage, forgotten=False),
        known=usage is not None,
        calls=services().recent_calls.of_run(run_id, MAX_RUN_CALLS),
        max_calls=MAX_RUN_CALLS,
        waiting=services().ledger.waiting(run_id),
    )


@dashboard.post("/run/reset")
def reset_run() -> Response:
    """Set what a run has spent to zero."""
    run_id = _run_id_of(request.form.to_dict())
    before = run_actions.reset(run_id)
    flash(f"Reset. The run had spent {figures.usd(before.spent_nanousd)}.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


@dashboard.post("/run/close")
def close_run() -> Response:
    """Close a run."""
    run_id = _run_id_of(request.form.to_dict())
    usage = run_actions.close(run_id)
    flash(f"Closed. The run has spent {figures.usd(usage.spent_nanousd)}.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


@dashboard.post("/tokens")
def issue_token() -> str:
    """Issue a run token, and show it once."""
    text, token = run_actions.issue(load(_issue, _issue_fields()))
    return render_template("dashboard/token.html", token=token_json(text, token))


@dashboard.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Show the sign-in form, or sign in with the key that it sent."""
    if request.method == "GET":
        return render_template("dashboard/sign_in.html", failure=None)
    try:
        access.sign_in(request.form.get("key", ""))
    except InvalidApiKeyError as error:
        g.code = error.code
        return render_template("dashboard/sign_in.html", failure="Invalid key."), error.status
    return redirect(url_for("dashboard.overview"), 303)


@dashboard.post("/sign-out")
def sign_out() -> Response:
    """Sign out."""
    access.sign_out()
    return redirect(url_for("dashboard.sign_in"), 303)


@dashboard.errorhandler(ProxyError)
def show_error(error: ProxyError) -> tuple[str, int]:
    """Show the error's message and the invalid fields."""
    g.code = error.code
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    page = render_template(
        "dashboard/error.html", error=error, problems=problems, bug=isinstance(error, InternalError)
    )
    return page, error.status


def _run_id_of(fields: dict[str, str]) -> str:
    """The run id of a page or an action. Raises InvalidRequestError."""
    run_id: str = load(_run, fields, "query")["run_id"]
    return run_id


def _given_fields() -> dict[str, str]:
    """The fields of the query that are not empty."""
    return {name: text for name, text in query_fields(request.args).items() if text}


def _refused(usage: RunUsage | None) -> list[tuple[str, int]]:
    """The numbers of a run's refused calls by code, the most frequent first."""
    refused = usage.detail.refused if usage and usage.detail else {}
    return sorted(refused.items(), key=lambda item: (-item[1], item[0]))


def _page_url(**changes: Any) -> str:  # noqa: ANN401 - any value of a query
    """The URL of this page with some of its query changed; None removes a parameter."""
    query: dict[str, Any] = {**request.args.to_dict(), **changes}
    return url_for(str(request.endpoint), **{name: value for name, value in query.items() if value})


def _issue_fields() -> dict[str, Any]:
    """The form's fields in the form that IssueSchema reads; empty ones are left out."""
    form = {name: text for name, text in request.form.items() if text}
    given: dict[str, Any] = {name: form[name] for name in _TEXT_FIELDS if name in form}
    if groups := form.get("groups", "").split():
        given["groups"] = groups
    if request.form.getlist("models"):
        given["models"] = request.form.getlist("models")
    if "calls_per_minute" in form:
        given["calls_per_minute"] = _number(form["calls_per_minute"])
    if "ttl_minutes" in form:
        minutes = _number(form["ttl_minutes"])
        given["ttl_seconds"] = minutes * SECONDS_PER_MINUTE if isinstance(minutes, int) else minutes
    return given


def _number(text: str) -> int | str:
    """The text as an integer; other text stays text, and the schema refuses it."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text
