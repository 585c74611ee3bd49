"""The dashboard's pages and actions. All works without JavaScript; with it, pages keep themselves new."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask_wtf.csrf import generate_csrf

from ridges_proxy.errors import InternalError, InvalidApiKeyError, InvalidRequestError, ProxyError
from ridges_proxy.ledger import RunQuery, RunUsage
from ridges_proxy.web import run_actions
from ridges_proxy.web.dashboard import access, figures
from ridges_proxy.web.dashboard.history import DAY_SECONDS
from ridges_proxy.web.run_json import token_json
from ridges_proxy.web.schemas.fields import UsageSchema, load, query_fields
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

PAGE_RUNS = 50
RUN_CALLS = 100
"""Of a run, the latest."""

SECONDS_PER_MINUTE = 60

dashboard = Blueprint(
    "dashboard", __name__, url_prefix="/dashboard", template_folder="templates", static_folder="static"
)
dashboard.before_request(access.guard)
dashboard.after_request(access.protect)

_query = RunQuerySchema()
_run = UsageSchema()
_issue = IssueSchema()


@dashboard.context_processor
def what_templates_use() -> dict[str, Any]:
    """Put amounts, times and bars into words; and the token of forms."""
    return {
        "usd": figures.usd,
        "span_of_time": figures.span_of_time,
        "moment": figures.moment,
        "bar_of": figures.Bar.of,
        "csrf_token": generate_csrf,
        "models": sorted(services().prices.prices),
        "can_mint": services().run_tokens.can_mint,
    }


@dashboard.get("")
def overview() -> str:
    """Show totals, charts, health, and one page of the runs."""
    given = {name: text for name, text in query_fields(request.args).items() if text}
    span = given.pop("span", "hour")
    span = span if span in figures.SPANS else "hour"
    query = RunQuery(**{"limit": PAGE_RUNS, **load(_query, given, "query")})
    began = time.monotonic()
    page = services().ledger.list(query)
    totals = services().metrics.totals()
    samples = services().history.samples(DAY_SECONDS, totals)
    return render_template(
        "dashboard/overview.html",
        page=page,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - began),
        query=query,
        span=span,
        span_names=list(figures.SPANS),
        chart=figures.chart(span, samples),
        spans=figures.spans(samples),
        now=totals,
        health=figures.health(samples),
        here=_here,
    )


@dashboard.get("/run")
def show_run() -> str:
    """Show one run's books and its latest calls; a run that is not known has none yet."""
    run_id = _run_of(query_fields(request.args))
    books = services().ledger.usage(run_id)
    return render_template(
        "dashboard/run.html",
        run=books or RunUsage(run_id, services().settings.max_cost_nanousd),
        known=books is not None,
        calls=services().recent_calls.of_run(run_id, RUN_CALLS),
        most_calls=RUN_CALLS,
    )


@dashboard.post("/run/reset")
def reset_run() -> Response:
    """Set a run's spend to zero."""
    run_id = _run_of(request.form.to_dict())
    before = run_actions.reset(run_id)
    flash(f"Reset: {figures.usd(before.spent_nanousd)} are forgotten.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


@dashboard.post("/run/close")
def close_run() -> Response:
    """Close a run."""
    run_id = _run_of(request.form.to_dict())
    receipt = run_actions.close(run_id)
    flash(f"Closed, having spent {figures.usd(receipt.spent_nanousd)}.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


@dashboard.post("/tokens")
def issue_token() -> str:
    """Mint a run token, and show it once."""
    text, token = run_actions.issue(load(_issue, _issue_fields()))
    return render_template("dashboard/token.html", token=token_json(text, token))


@dashboard.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Ask for the key; let in whoever has it."""
    if request.method == "GET":
        return render_template("dashboard/sign_in.html", failure=None)
    try:
        access.admit(request.form.get("key", ""))
    except InvalidApiKeyError as error:
        g.code = error.code
        return render_template("dashboard/sign_in.html", failure="This is not the key."), error.status
    return redirect(url_for("dashboard.overview"), 303)


@dashboard.post("/sign-out")
def sign_out() -> Response:
    """Forget who this is."""
    access.dismiss()
    return redirect(url_for("dashboard.sign_in"), 303)


@dashboard.errorhandler(ProxyError)
def show_error(error: ProxyError) -> tuple[str, int]:
    """Say what went wrong, in words, with the fields that do not fit."""
    g.code = error.code
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    page = render_template(
        "dashboard/error.html", error=error, problems=problems, bug=isinstance(error, InternalError)
    )
    return page, error.status


def _run_of(fields: dict[str, str]) -> str:
    """The run that a page or an action is about. Raises InvalidRequestError."""
    run_id: str = load(_run, fields, "query")["run_id"]
    return run_id


def _here(**changes: Any) -> str:  # noqa: ANN401 - what a query can hold
    """This page with some of its query changed; what is None is left out."""
    query: dict[str, Any] = {**request.args.to_dict(), **changes}
    return url_for("dashboard.overview", **{name: value for name, value in query.items() if value})


def _issue_fields() -> dict[str, Any]:
    """The form's fields as IssueSchema knows them; what is empty is not given."""
    form = {name: text for name, text in request.form.items() if text}
    given: dict[str, Any] = {name: form[name] for name in ("run_id", "budget_usd") if name in form}
    if request.form.getlist("models"):
        given["models"] = request.form.getlist("models")
    if "calls_per_minute" in form:
        given["calls_per_minute"] = _number(form["calls_per_minute"])
    if "ttl_minutes" in form:
        minutes = _number(form["ttl_minutes"])
        given["ttl_seconds"] = minutes * SECONDS_PER_MINUTE if isinstance(minutes, int) else minutes
    return given


def _number(text: str) -> int | str:
    """The whole number that it is; what is none stays text, for the schema to refuse."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text
