"""Query of `GET /admin/runs`, and the types of a query's values, which are text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.ledger import RunState, SortKey
from ridges_proxy.web.schemas.problems import MESSAGES
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import Name, Options, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DIGITS = 9
MAX_LIST_OFFSET = 10_000
MAX_LIST_LIMIT = 1_000
"""Together with the maximum offset, a bound of the cost of sorting one page of runs."""


class QueryUsd(Value):
    """An amount in USD, read as nano-USD."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": "string", "description": "USD, such as 0.25"}, **options)

    def read(self, value: Any) -> int:  # noqa: ANN401 - any text
        """The amount in nano-USD."""
        try:
            return nanousd_from_usd(value)
        except ValueError:
            raise ValidationError(MESSAGES["value_error"]) from None


class QueryChoice(Value):
    """One of several words, each with its meaning."""

    def __init__(self, meanings: Mapping[str, Any], **options: Unpack[Options]) -> None:
        super().__init__({"enum": list(meanings)}, **options)
        self.meanings = meanings

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any text
        """The word's meaning."""
        if value not in self.meanings:
            raise ValidationError(MESSAGES["value_error"])
        return self.meanings[value]


class QueryInteger(Value):
    """An integer between two bounds, both included."""

    def __init__(self, minimum: int, maximum: int, **options: Unpack[Options]) -> None:
        super().__init__({"type": "integer", "minimum": minimum, "maximum": maximum}, **options)
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> int:  # noqa: ANN401 - any text
        """The integer."""
        if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
            raise ValidationError(MESSAGES["int_parsing"])
        if not self.minimum <= int(value) <= self.maximum:
            raise ValidationError(MESSAGES["value_error"])
        return int(value)


class RunQuerySchema(RequestSchema):
    """Which runs, in which order. A query has no null, so no field allows it."""

    search = Name(allow_none=False)
    min_spent_nanousd = QueryUsd(data_key="min_spent_usd", allow_none=False)
    in_flight = QueryChoice({"true": True, "false": False}, allow_none=False)
    state = QueryChoice({state.value: state for state in RunState}, allow_none=False)
    sort = QueryChoice({key.value: key for key in SortKey}, allow_none=False)
    offset = QueryInteger(0, MAX_LIST_OFFSET, allow_none=False)
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)
