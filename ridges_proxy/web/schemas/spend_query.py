"""Query of the dashboard's page of the spend."""

from __future__ import annotations

from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import QueryChoice

SPANS_DAYS = (7, 30)

PARTS = ("day", "model", "group")


class SpendQuerySchema(RequestSchema):
    """How many days. A query has no null, so no field allows it."""

    days = QueryChoice({str(days): days for days in SPANS_DAYS}, allow_none=False)


class SpendFileQuerySchema(SpendQuerySchema):
    """How many days, and by what the sums are."""

    by = QueryChoice({part: part for part in PARTS}, allow_none=False)
