"""`/admin/calls`: the calls in flight, for operators. Registered only if ADMIN_API_KEY is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, request

from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.open_call_json import open_call_json
from ridges_proxy.web.responses import json_response
from ridges_proxy.web.schemas.open_call_query import OpenCallQuerySchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

DEFAULT_CALLS = 100

admin_calls = Blueprint("admin_calls", __name__, url_prefix="/admin/calls")
admin_calls.before_request(require_operator)

_query = OpenCallQuerySchema()


@admin_calls.get("")
def list_calls() -> Response:
    """The calls in flight with a hold, of all servers that share the ledger, or of one run: the oldest first.

    A row is one attempt at the upstream. A call that waits for its hold is not listed. `started_at` is the
    time of the hold by the clock of its server; null for a hold of version 0.2.0 or before. A hold that has
    `expired` is charged by the next sweep, unless its call ends before that.
    """
    query = {"limit": DEFAULT_CALLS, **load(_query, query_fields(request.args), "query")}
    page = services().ledger.open_calls(**query)
    calls = [open_call_json(call) for call in page.calls]
    return json_response({"calls": calls, "total": page.total, "limit": query["limit"]})
