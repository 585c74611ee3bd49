"""`/admin/*`: the ledger for operators. Registered only if ADMIN_API_KEY is set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.ledger import Action, RunQuery
from ridges_proxy.web import run_actions, run_context, session_actions
from ridges_proxy.web.audit_trail import record
from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.request_body import json_body
from ridges_proxy.web.responses import json_response
from ridges_proxy.web.run_context import with_present_budget, with_present_levels
from ridges_proxy.web.run_json import receipt_json, run_json, session_json, token_json
from ridges_proxy.web.schemas.problems import problem
from ridges_proxy.web.schemas.receipt_query import ReceiptQuerySchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.services import services
from ridges_proxy.web.settings_json import settings_json

if TYPE_CHECKING:
    from flask import Response

    from ridges_proxy.ledger import RunUsage


admin = Blueprint("admin", __name__, url_prefix="/admin")

_query = RunQuerySchema()
_issue = IssueSchema()
_receipts = ReceiptQuerySchema()

DEFAULT_RECEIPTS = 100


admin.before_request(require_operator)


@admin.get("/runs")
def list_runs() -> Response:
    """One page of the runs that match the query."""
    query = RunQuery(**load(_query, query_fields(request.args), "query"))
    page = run_context.list_runs(query)
    return json_response(
        {
            "runs": [run_json(usage) for usage in with_present_levels(page.runs)],
            "total": page.total,
            "counts": {state.value if state else "all": number for state, number in page.counts.items()},
            "offset": query.offset,
            "limit": query.limit,
        }
    )


@admin.get("/runs/<text:run_id>")
def show_run(run_id: str) -> Response:
    """One run's usage."""
    return _run_response(run_actions.require_known(services().ledger.usage(run_id)))


@admin.post("/runs/<text:run_id>/reset")
def reset_run(run_id: str) -> Response:
    """Set what a run has spent to zero. Answers its usage before that."""
    return _run_response(run_actions.reset(run_id))


@admin.post("/runs/<text:run_id>/close")
def close_run(run_id: str) -> Response:
    """Close a run. Answers its final usage."""
    return _run_response(run_actions.close(run_id))


@admin.post("/runs")
def issue_token() -> Response:
    """Issue a run token."""
    text, token = run_actions.issue(load(_issue, json_body()))
    return json_response(token_json(text, token, run_actions.unpriced_models(token)))


@admin.get("/receipts")
def list_receipts() -> Response:
    """One page of the receipts of forgotten runs, in no fixed order; `next` is the next page's cursor."""
    query = load(_receipts, query_fields(request.args), "query")
    try:
        page = services().ledger.history(
            query.get("since", 0.0), query.get("mark"), query.get("limit", DEFAULT_RECEIPTS)
        )
    except ValueError:
        raise InvalidRequestError([problem(["query", "mark"], "value_error")]) from None
    return json_response(
        {"receipts": [receipt_json(receipt) for receipt in page.receipts], "next": page.next_cursor}
    )


@admin.get("/sessions")
def list_sessions() -> Response:
    """The sessions of the dashboard, oldest first."""
    sessions = services().sessions.valid()
    return json_response({"sessions": [session_json(session) for session in sessions]})


@admin.post("/sessions/<session_id>/end")
def end_session(session_id: str) -> Response:
    """End a session. Answers how many have ended: 0 if it is not valid."""
    return json_response({"ended": int(session_actions.end(session_id))})


@admin.post("/sessions/end")
def end_sessions() -> Response:
    """End all sessions. Answers how many have ended."""
    return json_response({"ended": session_actions.end_all()})


@admin.get("/settings")
def show_settings() -> Response:
    """Digests of the settings that run, and what became of the last reload.

    Two processes with the same ADMIN_API_KEY get the same digest for the same value. `workers` are those that
    accept connections; `current` is false for a worker that still has earlier settings.
    """
    return json_response(settings_json(services()))


@admin.post("/sweep")
def sweep() -> Response:
    """Run a sweep now. Answers its counts."""
    record(Action.SWEEP)
    return json_response(asdict(services().sweeper.sweep()))


def _run_response(usage: RunUsage) -> Response:
    (run,) = _present_json(usage)
    return json_response(run)


def _present_json(*usages: RunUsage) -> list[dict[str, Any]]:
    """Runs with the budget of their next call, and their present levels."""
    return [run_json(usage) for usage in with_present_levels([*map(with_present_budget, usages)])]
