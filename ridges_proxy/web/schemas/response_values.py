"""Types of values in requests of `/v1/responses` that are accepted and not used, or refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat_messages import MessageObject
from ridges_proxy.web.schemas.values import Options, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY: tuple[object, ...] = (None, "", [], {})
"""Values that ask for nothing. Clients send them in fields that they do not use."""

NOT_ACCEPTED = "Not accepted here: docs/API.md lists what POST /v1/responses accepts"


def is_empty(value: object) -> bool:
    """Whether a value asks for nothing."""
    return any(value == empty and type(value) is type(empty) for empty in EMPTY)


def refuse_unless_empty(value: object) -> None:
    """Read the value of an unknown property: nothing, if it is null or empty."""
    if not is_empty(value):
        raise ValidationError(NOT_ACCEPTED)


class Inert(Value):
    """A field that is accepted and not used: it changes neither the answer nor the cost."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"description": "Accepted, and not used"}, **options)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The value, unchanged."""
        return value


class Refused(Value):
    """A field that needs what this server does not have. Null and empty values are accepted."""

    def __init__(self, reason: str, **options: Unpack[Options]) -> None:
        super().__init__({"enum": list(EMPTY), "description": reason}, **options)
        self.reason = reason

    def read(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Nothing. Raises ValidationError with the reason for a value that asks for something."""
        if not is_empty(value):
            raise ValidationError(self.reason)


class ListedObject(MessageObject):
    """An object of which each property is listed. Other properties may only be null or empty."""

    def __init__(self, properties: Mapping[str, Value], **options: Unpack[Options]) -> None:
        super().__init__(properties, **options)
        self.json_schema["additionalProperties"] = {"enum": list(EMPTY)}
        self._read_unknown = refuse_unless_empty


def tagged(kinds: Mapping[str, ListedObject], value: object, refusal: str, default: str | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Read an object as the kind that its `type` names. Others raise ValidationError with the refusal."""
    if not isinstance(value, dict):
        raise ValidationError(MessageObject.not_object_message)
    kind = value.get("type", default)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValidationError({"type": [refusal]})
    return kinds[kind].read(value)
