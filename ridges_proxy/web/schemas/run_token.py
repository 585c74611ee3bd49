"""`POST /admin/runs`: the limits of a new run token."""

from __future__ import annotations

from typing import Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.auth.token_claims import (
    GROUP_FORM,
    GROUP_PATTERN,
    MAX_CALLS_PER_MINUTE,
    MAX_GROUPS,
    MAX_LIFETIME_SECONDS,
    MAX_MODELS,
    is_group,
)
from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.web.schemas.containers import List
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import Integer, Name, Options, RunId, Value

DEFAULT_TTL_SECONDS = 3_600


class Usd(Value):
    """An amount in USD. A JSON number is read with the digits in which Python writes it."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": ["string", "number"], "description": "USD, such as 0.25."}, **options)

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """The amount as text."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValidationError("Input should be an amount in USD")
        try:
            nanousd_from_usd(str(value))
        except ValueError as error:
            raise ValidationError(f"Input {error}") from None
        return str(value)


class Group(Value):
    """The name of a group of runs."""

    def __init__(self) -> None:
        super().__init__({"type": "string", "pattern": f"^{GROUP_PATTERN}$"})

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """The name, unchanged."""
        if not is_group(value):
            raise ValidationError(f"Input should be {GROUP_FORM}")
        return str(value)


class IssueSchema(RequestSchema):
    """A run, and what its token allows."""

    run_id = RunId(required=True)
    ttl_seconds = Integer(1, MAX_LIFETIME_SECONDS)
    budget_usd = Usd()
    models = List(Name(min_length=1), 1, MAX_MODELS)
    calls_per_minute = Integer(1, MAX_CALLS_PER_MINUTE)
    groups = List(Group(), 1, MAX_GROUPS)
    reserve_final_usd = Usd()

    def load(self, data: Any, **options: Any) -> Any:  # noqa: ANN401 - marshmallow's
        """The validated fields, with the default lifetime if none is given."""
        fields = super().load(data, **options)
        budget, reserve = fields.get("budget_usd"), fields.get("reserve_final_usd")
        if None not in (budget, reserve) and nanousd_from_usd(reserve) >= nanousd_from_usd(budget):
            raise ValidationError({"reserve_final_usd": ["Input should be less than budget_usd"]})
        return {**fields, "ttl_seconds": fields.get("ttl_seconds") or DEFAULT_TTL_SECONDS}
