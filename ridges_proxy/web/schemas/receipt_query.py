"""`GET /admin/receipts`: which receipts."""

from __future__ import annotations

import re

from marshmallow import Schema, ValidationError

from ridges_proxy.web.schemas.fields import MESSAGES, optional
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, integer_text
from ridges_proxy.web.schemas.shapes import takes

MARK = re.compile(r"[0-9]{1,18}(:[0-9]{1,18})?")
SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


@takes(type="number", minimum=0, description="Seconds since 1970.")
def _seconds(value: str) -> float:
    if not SECONDS.fullmatch(value):
        raise ValidationError("Input should be seconds since 1970")
    return float(value)


@takes(type="string", pattern=f"^{MARK.pattern}$", description="The `next` of the page before.")
def _mark(value: str) -> str:
    if not MARK.fullmatch(value):
        raise ValidationError("Input should be the `next` of another page")
    return value


class ReceiptQuerySchema(Schema):
    """An unknown name is refused: a misspelt filter must not pass for one."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    since = optional(_seconds)
    mark = optional(_mark)
    limit = optional(integer_text(1, MAX_LIST_LIMIT))
