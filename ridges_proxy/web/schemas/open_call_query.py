"""Query of `GET /admin/calls`. A query has no null, so no field allows it."""

from __future__ import annotations

from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, QueryInteger
from ridges_proxy.web.schemas.values import RunId


class OpenCallQuerySchema(RequestSchema):
    """Calls of which run, and how many."""

    run_id = RunId(data_key="run", allow_none=False)
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)
