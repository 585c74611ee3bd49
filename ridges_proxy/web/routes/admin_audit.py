"""`/admin/audit` and `/admin/tokens`: what operators have done. Registered only if ADMIN_API_KEY is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, request

from ridges_proxy.ledger import AuditQuery
from ridges_proxy.web.audit_json import entry_json, issued_token_json
from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.issued_tokens import issued_tokens
from ridges_proxy.web.responses import json_response
from ridges_proxy.web.schemas.audit_query import AuditQuerySchema, TokenQuerySchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

admin_audit = Blueprint("admin_audit", __name__, url_prefix="/admin")
admin_audit.before_request(require_operator)

_entries = AuditQuerySchema()
_tokens = TokenQuerySchema()


@admin_audit.get("/audit")
def list_entries() -> Response:
    """One page of the audit trail, the newest actions first; `next` is the next page's cursor."""
    page = services().ledger.audit_trail(AuditQuery(**load(_entries, query_fields(request.args), "query")))
    return json_response({"entries": [entry_json(entry) for entry in page.entries], "next": page.next_cursor})


@admin_audit.get("/tokens")
def list_tokens() -> Response:
    """One page of the run tokens that this server has issued and that have not expired, the latest first.

    The token itself is never listed. `run_closed` is true for a token that is refused, because its run is
    closed. Tokens that another server has minted with RUN_TOKEN_KEY are not known.
    """
    page = issued_tokens(**load(_tokens, query_fields(request.args), "query"))
    return json_response(
        {"tokens": [issued_token_json(each) for each in page.tokens], "next": page.next_cursor}
    )
