"""Query of the dashboard's page of recent calls."""

from __future__ import annotations

from ridges_proxy.web.schemas.receipt_query import QuerySeconds
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import Name


class RecentCallQuerySchema(RequestSchema):
    """Which recent calls. A query has no null, so no field allows it."""

    request = Name(allow_none=False)
    code = Name(allow_none=False)
    run = Name(allow_none=False)
    model = Name(allow_none=False)
    before = QuerySeconds()
