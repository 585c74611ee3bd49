"""Query of `GET /admin/receipts`."""

from __future__ import annotations

import re
from typing import Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, QueryInteger
from ridges_proxy.web.schemas.values import Options, Value

CURSOR = re.compile(r"[0-9]{1,18}(:[0-9]{1,18})?")
SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class QuerySeconds(Value):
    """A Unix time in seconds."""

    def __init__(self) -> None:
        super().__init__({"type": "number", "minimum": 0, "description": "Seconds since 1970."})

    def read(self, value: Any) -> float:  # noqa: ANN401 - any text
        """The seconds."""
        if not SECONDS.fullmatch(value):
            raise ValidationError("Input should be seconds since 1970")
        return float(value)


class QueryCursor(Value):
    """The position after the last row of the previous page."""

    def __init__(self, form: re.Pattern[str] = CURSOR, **options: Unpack[Options]) -> None:
        shape = {
            "type": "string",
            "pattern": f"^{form.pattern}$",
            "description": "`next` of the previous page.",
        }
        super().__init__(shape, **options)
        self.form = form

    def read(self, value: Any) -> str:  # noqa: ANN401 - any text
        """The cursor, unchanged."""
        if not self.form.fullmatch(value):
            raise ValidationError("Input should be the `next` of another page")
        return value  # type: ignore[no-any-return] # checked above


class ReceiptQuerySchema(RequestSchema):
    """Which receipts, and how many."""

    since = QuerySeconds()
    mark = QueryCursor()
    limit = QueryInteger(1, MAX_LIST_LIMIT)
