"""Queries of `GET /admin/audit` and `GET /admin/tokens`. A query has no null, so no field allows it."""

from __future__ import annotations

import re

from ridges_proxy.ledger import Action
from ridges_proxy.web.schemas.receipt_query import QueryCursor, QuerySeconds
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, QueryChoice, QueryInteger
from ridges_proxy.web.schemas.values import Name

ENTRY_CURSOR = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}:[0-9a-f]{32}")

MAX_TOKENS_LISTED = 200
"""Tokens on a page: for each of their runs, the ledger is asked whether the run is closed."""


class AuditQuerySchema(RequestSchema):
    """Which entries, and how many."""

    action = QueryChoice({action.value: action for action in Action}, allow_none=False)
    search = Name(data_key="subject", allow_none=False)
    since = QuerySeconds()
    cursor = QueryCursor(ENTRY_CURSOR, data_key="mark")
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)


class TokenQuerySchema(RequestSchema):
    """Which issued tokens, and how many."""

    search = Name(data_key="run", allow_none=False)
    cursor = QueryCursor(ENTRY_CURSOR, data_key="mark")
    limit = QueryInteger(1, MAX_TOKENS_LISTED, allow_none=False)
