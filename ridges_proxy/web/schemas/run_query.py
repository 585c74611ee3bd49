"""What queries may carry: their values are text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.ledger import SortKey
from ridges_proxy.web.schemas.fields import MESSAGES, fault, name_text, take
from ridges_proxy.web.schemas.shapes import takes

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DIGITS = 9
MAX_LIST_OFFSET = 10_000
MAX_LIST_LIMIT = 1_000
"""With the offset's, it bounds what one page of runs can cost to sort."""


@takes(type="string", description="USD, such as 0.25")
def _nanousd(value: str) -> int:
    try:
        return nanousd_from_usd(value)
    except ValueError:
        raise fault("value_error") from None


def _one_of(values: dict[str, Any]) -> Callable[[str], Any]:
    """A word of a query, and what it stands for."""

    @takes(enum=list(values))
    def read(value: str) -> Any:  # noqa: ANN401 - whatever the words stand for
        if value not in values:
            raise fault("value_error")
        return values[value]

    return read


def integer_text(least: int, most: int) -> Callable[[str], int]:
    """A whole number of a query, in bounds."""

    @takes(type="integer", minimum=least, maximum=most)
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
            raise fault("int_parsing")
        if not least <= int(value) <= most:
            raise fault("value_error")
        return int(value)

    return read


class RunQuerySchema(Schema):
    """The query of `GET /admin/runs`. An unknown name is refused: a misspelt filter must not pass for one."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    search = take(name_text, "string_type")
    min_spent_nanousd = take(_nanousd, "value_error", data_key="min_spent_usd")
    in_flight = take(_one_of({"true": True, "false": False}), "value_error")
    sort = take(_one_of({key.value: key for key in SortKey}), "value_error")
    offset = take(integer_text(0, MAX_LIST_OFFSET), "int_parsing")
    limit = take(integer_text(1, MAX_LIST_LIMIT), "int_parsing")
