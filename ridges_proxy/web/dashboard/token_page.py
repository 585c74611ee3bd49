"""The form that issues run tokens, and the page that shows a new token."""

from __future__ import annotations

import re
from typing import Any

from flask import render_template, request

from ridges_proxy.web import run_actions
from ridges_proxy.web.dashboard.blueprint import dashboard
from ridges_proxy.web.run_json import token_json
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.run_token import IssueSchema

SECONDS_PER_MINUTE = 60

_TEXT_FIELDS = ("run_id", "budget_usd", "reserve_final_usd")
"""Fields of the form that IssueSchema reads as they are."""

_issue = IssueSchema()


@dashboard.post("/tokens")
def issue_token() -> str:
    """Issue a run token, and show it once."""
    text, token = run_actions.issue(load(_issue, _issue_fields()))
    issued = token_json(text, token, run_actions.unpriced_models(token))
    return render_template("dashboard/token.html", token=issued)


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
