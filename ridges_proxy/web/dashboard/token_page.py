"""The page of issued run tokens, the form that issues one, and the page that shows a new token."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from flask import render_template, request

from ridges_proxy.runtime.csv_cells import Usd
from ridges_proxy.web import run_actions
from ridges_proxy.web.audit_json import issued_token_json
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import figures
from ridges_proxy.web.dashboard.audit_page import kept_text
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.issued_tokens import issued_tokens
from ridges_proxy.web.run_json import token_json
from ridges_proxy.web.schemas.audit_query import TokenQuerySchema
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

SECONDS_PER_MINUTE = 60

CSV_COLUMNS = (
    *("run_id", "issued_at", "expires_at", "run_closed", "budget_usd", "models", "groups"),
    *("calls_per_minute", "reserve_final_usd", "issued_by", "address"),
)

_TEXT_FIELDS = ("run_id", "budget_usd", "reserve_final_usd")
"""Fields of the form that IssueSchema reads as they are."""

_issue = IssueSchema()
_query = TokenQuerySchema()


@dashboard.get("/tokens")
def show_tokens() -> str:
    """Show one page of the run tokens that this server has issued and that have not expired."""
    query = load(_query, given_fields(), "query")
    started_at = time.monotonic()
    page = issued_tokens(**query)
    return render_template(
        "dashboard/tokens.html",
        page=page,
        query=query,
        now=services().calls.clock(),
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        kept=kept_text(),
    )


@dashboard.get("/tokens.csv")
def tokens_csv() -> Response:
    """The same page of tokens as a file, without the tokens themselves."""
    page = issued_tokens(**load(_query, given_fields(), "query"))
    rows = [issued_token_json(token) for token in page.tokens]
    return csv_response("tokens.csv", CSV_COLUMNS, [{name: _cell(row[name]) for name in row} for row in rows])


@dashboard.post("/tokens")
def issue_token() -> str:
    """Issue a run token, and show it once."""
    text, token = run_actions.issue(load(_issue, _issue_fields()))
    issued = token_json(text, token, run_actions.unpriced_models(token))
    return render_template("dashboard/token.html", token=issued, expires_at=token.expires_at)


def _cell(value: object) -> object:
    """A field of a token. Models and groups are separated by spaces; without a limit the field is empty."""
    if isinstance(value, float):
        return Usd(value)
    return " ".join(value) if isinstance(value, list) else "" if value is None else value


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
