"""Types of a chat's messages. On `/v1`, a kind of part that is not listed here is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Unpack

from marshmallow import ValidationError, missing

from ridges_proxy.web.schemas.containers import List, Object, OneMessage, StringOr
from ridges_proxy.web.schemas.field_table import (
    ASSISTANT_MESSAGE,
    ASSISTANT_PART_TYPES,
    CALLED_FUNCTION,
    IMAGE_URL,
    MESSAGE,
    PART,
    PART_TYPES,
    TOOL_CALL,
    Treatment,
)
from ridges_proxy.web.schemas.problems import MAX_FAULTY_MESSAGES, MAX_MESSAGES, MESSAGES
from ridges_proxy.web.schemas.tools import MAX_FUNCTION_NAME_CHARACTERS
from ridges_proxy.web.schemas.values import Choice, Options, String, Text, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.web.schemas.field_table import Place

ASSISTANT = "assistant"

MAX_WORD_CHARACTERS = 256
MAX_TOOL_CALLS = 128

MAX_ERRORS = 10
"""Number of errors that are named for one object or list. A body of empty parts alone took 9 seconds."""

_IMAGE_URL = re.compile(r"https?://.|data:image/[a-z0-9.+-]+;base64,.", re.IGNORECASE)
"""Start of a URL. The upstream parses the rest, and the prompt's bound counts it in any case."""

IMAGE_URL_MESSAGE = "Input should be an http or https URL, or a data:image/...;base64, URL"
PART_MESSAGE = "Input should be text or image_url: other kinds of parts cannot be bounded here"
TOOL_CALL_MESSAGE = (
    "Input should be a function call with a name and arguments, both strings, the name of at most"
    f" {MAX_FUNCTION_NAME_CHARACTERS} characters"
)


class MessageList(List):
    """The messages of a chat."""

    max_errors = MAX_FAULTY_MESSAGES

    def __init__(self, message: Value, **options: Unpack[Options]) -> None:
        super().__init__(message, 1, MAX_MESSAGES, **options)

    def check_list(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Raise ValidationError if the value is not a list, or too short or too long."""
        if not isinstance(value, list):
            raise ValidationError(MESSAGES["list_type"])
        if not value:
            raise ValidationError(MESSAGES["too_short"])
        if len(value) > MAX_MESSAGES:
            raise ValidationError(MESSAGES["too_long"])


class MessageObject(Object):
    """A message, or an object inside one."""

    max_errors = MAX_ERRORS
    not_object_message = MESSAGES["model_attributes_type"]


def tagged(kinds: Mapping[str, Value], value: object, refusal: str, default: str | None = None) -> Any:  # noqa: ANN401 - as the kind reads it
    """Read an object as the kind that its `type` names. Others raise ValidationError with the refusal."""
    if not isinstance(value, dict):
        raise ValidationError(MessageObject.not_object_message)
    kind = value.get("type", default)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValidationError({"type": [refusal]})
    return kinds[kind].read(value)


class ByRole(Value):
    """A message: one of the assistant, or another one."""

    def __init__(self, assistant: MessageObject, other: MessageObject) -> None:
        super().__init__({"anyOf": [assistant.json_schema, other.json_schema]})
        self.assistant, self.other = assistant, other

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A message, as the object of its role reads it."""
        is_assistant = isinstance(value, dict) and value.get("role") == ASSISTANT
        return (self.assistant if is_assistant else self.other).read(value)


class Message(ByRole):
    """A message on `/v1`."""

    component = "Message"

    def __init__(self) -> None:
        super().__init__(
            _message(Choice(ASSISTANT, required=True), Part(ASSISTANT_PART_TYPES), ASSISTANT_MESSAGE),
            _message(Text(MAX_WORD_CHARACTERS, required=True), Part(), MESSAGE),
        )


def _message(role: Value, part: Part, place: Place) -> MessageObject:
    function = Object(
        {"name": Text(MAX_FUNCTION_NAME_CHARACTERS, required=True), "arguments": String(required=True)},
        CALLED_FUNCTION,
        required=True,
    )
    tool_call = OneMessage(Object({"function": function}, TOOL_CALL), TOOL_CALL_MESSAGE)
    return MessageObject(
        {
            "role": role,
            "content": StringOr(String(), PartList(part)),
            "name": Text(MAX_FUNCTION_NAME_CHARACTERS),
            "tool_calls": List(tool_call, 0, MAX_TOOL_CALLS),
            "tool_call_id": Text(MAX_WORD_CHARACTERS),
            "refusal": String(),
            "reasoning": String(),
            "reasoning_content": String(),
        },
        place,
    )


class Part(Value):
    """A part of a message's content: an object with a `type`, and a field of the same name as the type."""

    def __init__(self, types: Place = PART_TYPES) -> None:
        self.component = "Part" if types is PART_TYPES else "AssistantPart"
        url = MessageObject(
            {"url": ImageUrl(required=True), "detail": Choice("auto", "low", "high")},
            IMAGE_URL,
            required=True,
        )
        contents = {"text": String(required=True), "refusal": String(required=True), "image_url": url}
        self.kinds = {
            kind: MessageObject({"type": _PartType(kind), kind: content}, PART)
            for kind, content in contents.items()
        }
        self._read_kinds = {**self.kinds, **dropped_parts(types)}
        super().__init__({"oneOf": [each.json_schema for each in self._read_kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A part, unchanged, or `missing` if parts of its type are dropped."""
        return tagged(self._read_kinds, value, PART_MESSAGE)


def dropped_parts(types: Place) -> dict[str, Value]:
    """The parts that are dropped, by their type."""
    return {kind: _DroppedPart(kind) for kind in sorted(types.dropped)}


class _DroppedPart(Value):
    """A part of a type that is dropped, whatever is in it."""

    def __init__(self, kind: str) -> None:
        description = f"It is {Treatment.DROPPED.value}."
        properties = {"type": {"const": kind}}
        super().__init__(
            {"type": "object", "required": ["type"], "properties": properties, "description": description}
        )

    def read(self, _value: Any) -> Any:  # noqa: ANN401 - any JSON
        return missing


class _PartType(Value):
    """The type of a part. It has chosen the object that reads the part, so no check is left."""

    def __init__(self, kind: str) -> None:
        super().__init__({"const": kind}, required=True)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        return value


class PartList(List):
    """The parts of a message's content."""

    max_errors = MAX_ERRORS

    def __init__(self, part: Value) -> None:
        super().__init__(part, 0)

    def check_list(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Raise ValidationError if the value is not a list."""
        if not isinstance(value, list):
            raise ValidationError("Input should be a string or a list of parts")


class ImageUrl(Value):
    """The URL of an image."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(
            {"type": "string", "description": "http, https, or data:image/…;base64,…"}, **options
        )

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A URL, unchanged."""
        if not isinstance(value, str) or not _IMAGE_URL.match(value):
            raise ValidationError(IMAGE_URL_MESSAGE)
        return value
