"""`GET /admin/receipts`: which receipts."""

from __future__ import annotations

import re

from marshmallow import Schema, ValidationError

from ridges_proxy.web.schemas import MAX_LIST_LIMIT, MESSAGES, optional

MARK = re.compile(r"[0-9]{1,18}(:[0-9]{1,18})?")
SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def _seconds(value: str) -> float:
    if not SECONDS.fullmatch(value):
        raise ValidationError("Input should be seconds since 1970")
    return float(value)


def _mark(value: str) -> str:
    if not MARK.fullmatch(value):
        raise ValidationError("Input should be the `next` of another page")
    return value


def _limit(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MAX_LIST_LIMIT))):
        raise ValidationError(MESSAGES["int_parsing"])
    if not 1 <= int(value) <= MAX_LIST_LIMIT:
        raise ValidationError(MESSAGES["value_error"])
    return int(value)


class ReceiptQuerySchema(Schema):
    """An unknown name is refused: a misspelt filter must not pass for one."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    since = optional(_seconds)
    mark = optional(_mark)
    limit = optional(_limit)
