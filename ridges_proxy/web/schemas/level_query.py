"""Query of a list of the levels of budgets."""

from __future__ import annotations

from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET, QueryInteger
from ridges_proxy.web.schemas.values import Name


class LevelQuerySchema(RequestSchema):
    """The levels of which budget, and which page of them. A query has no null, so no field allows it."""

    budget = Name(allow_none=False)
    offset = QueryInteger(0, MAX_LIST_OFFSET, allow_none=False)
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)
