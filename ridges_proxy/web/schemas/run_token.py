"""`POST /admin/runs`: what a run token may be asked to allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marshmallow import Schema, ValidationError, post_load

from ridges_proxy.auth.run_tokens import MAX_CALLS_PER_MINUTE, MAX_LIFETIME_SECONDS, MAX_MODELS
from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.web.schemas.fields import (
    MAX_NAME_CHARACTERS,
    MESSAGES,
    name_text,
    optional,
    required,
    run_id_text,
)
from ridges_proxy.web.schemas.readers import integer, list_of
from ridges_proxy.web.schemas.shapes import takes

if TYPE_CHECKING:
    from typing import Any

DEFAULT_TTL_SECONDS = 3_600


@takes(type=["string", "number"], description="USD, such as 0.25.")
def _usd(value: object) -> str:
    """An amount in USD; a JSON number is read as it is written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValidationError("Input should be an amount in USD")
    try:
        nanousd_from_usd(str(value))
    except ValueError as error:
        raise ValidationError(f"Input {error}") from None
    return str(value)


@takes(type="string", minLength=1, maxLength=MAX_NAME_CHARACTERS)
def _model(value: object) -> str:
    name: str = name_text(value)
    if not name:
        raise ValidationError(MESSAGES["string_too_short"])
    return name


class IssueSchema(Schema):
    """An unknown name is refused: a misspelt limit must not pass for one."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    run_id = required(run_id_text)
    ttl_seconds = optional(integer(1, MAX_LIFETIME_SECONDS))
    budget_usd = optional(_usd)
    models = optional(list_of(_model, MAX_MODELS))
    calls_per_minute = optional(integer(1, MAX_CALLS_PER_MINUTE))

    @post_load
    def fill_in(self, fields: dict[str, Any], **_: object) -> dict[str, Any]:
        """An hour, unless another time is given."""
        return {**fields, "ttl_seconds": fields.get("ttl_seconds") or DEFAULT_TTL_SECONDS}
