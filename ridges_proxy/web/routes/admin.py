"""`/admin/*`: the operators' view of the ledger. Registered only where ADMIN_API_KEY is set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flask import Blueprint, request
from werkzeug.routing import BaseConverter

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.ledger import RunQuery
from ridges_proxy.web import run_actions
from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.request_body import json_body
from ridges_proxy.web.responses import json_reply
from ridges_proxy.web.run_json import receipt_json, run_json, token_json
from ridges_proxy.web.schemas.fields import load, problem, query_fields
from ridges_proxy.web.schemas.receipt_query import ReceiptQuerySchema
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response
    from flask.sansio.blueprints import BlueprintSetupState


class RunIdConverter(BaseConverter):
    """Any run's id: werkzeug's own `path` takes none that begins with a slash."""

    regex = r"(?s:.+?)"
    part_isolating = False


admin = Blueprint("admin", __name__, url_prefix="/admin")

_query = RunQuerySchema()
_issue = IssueSchema()
_receipts = ReceiptQuerySchema()

DEFAULT_RECEIPTS = 100


@admin.record_once
def know_run_ids(state: BlueprintSetupState) -> None:
    """Let the routes below have run ids."""
    state.app.url_map.converters["run"] = RunIdConverter


admin.before_request(require_operator)


@admin.get("/runs")
def list_runs() -> Response:
    """List the runs that match, one page."""
    query = RunQuery(**load(_query, query_fields(request.args), "query"))
    page = services().ledger.list(query)
    return json_reply(
        {
            "runs": [run_json(usage) for usage in page.runs],
            "total": page.total,
            "offset": query.offset,
            "limit": query.limit,
        }
    )


@admin.get("/runs/<run:run_id>")
def show_run(run_id: str) -> Response:
    """Show one run's books."""
    return json_reply(run_json(run_actions.known(services().ledger.usage(run_id))))


@admin.post("/runs/<run:run_id>/reset")
def reset_run(run_id: str) -> Response:
    """Set a run's spend to zero. Answers its books as they were before."""
    return json_reply(run_json(run_actions.reset(run_id)))


@admin.post("/runs/<run:run_id>/close")
def close_run(run_id: str) -> Response:
    """Close a run. Answers its final receipt."""
    return json_reply(run_json(run_actions.close(run_id)))


@admin.post("/runs")
def issue_token() -> Response:
    """Mint a run token."""
    return json_reply(token_json(*run_actions.issue(load(_issue, json_body()))))


@admin.get("/receipts")
def list_receipts() -> Response:
    """Receipts of forgotten runs, one page, in no set order; `next` is the mark of the next page."""
    query = load(_receipts, query_fields(request.args), "query")
    try:
        page = services().ledger.history(
            query.get("since", 0.0), query.get("mark"), query.get("limit", DEFAULT_RECEIPTS)
        )
    except ValueError:
        raise InvalidRequestError([problem(["query", "mark"], "value_error")]) from None
    return json_reply(
        {"receipts": [receipt_json(receipt) for receipt in page.receipts], "next": page.next_cursor}
    )


@admin.post("/sweep")
def sweep() -> Response:
    """Sweep now, and say what was done."""
    return json_reply(asdict(services().sweeper.sweep()))
