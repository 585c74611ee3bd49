"""Types of values in requests of `/v1/responses`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat_messages import MessageObject
from ridges_proxy.web.schemas.values import Options, Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Inert(Value):
    """A field that is accepted and not used: it changes neither the answer nor the cost."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"description": "Accepted, and not used"}, **options)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The value, unchanged."""
        return value


def tagged(
    kinds: Mapping[str, MessageObject], value: object, refusal: str, default: str | None = None
) -> dict[str, Any]:
    """Read an object as the kind that its `type` names. Others raise ValidationError with the refusal."""
    if not isinstance(value, dict):
        raise ValidationError(MessageObject.not_object_message)
    kind = value.get("type", default)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValidationError({"type": [refusal]})
    return kinds[kind].read(value)
