"""A chat's messages as `/v1` takes them: every field of a message, and every kind of part, is listed."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.fields import MAX_FAULTY_MESSAGES, MAX_MESSAGES, MESSAGES
from ridges_proxy.web.schemas.readers import choice, json_object, text
from ridges_proxy.web.schemas.shapes import shape_of, takes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Any], object]

MAX_WORD_CHARACTERS = 256
MAX_TOOL_CALLS = 128

MAX_FAULTS = 10
"""How many faults of one object or list are named: a body of nothing but empty parts took 9 seconds."""

_IMAGE_URL = re.compile(r"https?://.|data:image/[a-z0-9.+-]+;base64,.", re.IGNORECASE)
"""How it begins; what follows is the upstream's to read, and is counted whatever it is."""

IMAGE_URL_WORDS = "Input should be an http or https URL, or a data:image/...;base64, URL"
PART_WORDS = "Input should be text or image_url: other kinds of parts cannot be bounded here"
ARGUMENTS_WORDS = "Input should be a function call with a name and arguments, both strings"


@takes(type="array", minItems=1, maxItems=MAX_MESSAGES, items={"$ref": "#/components/schemas/Message"})
def read_messages(value: object) -> list[dict[str, Any]]:
    """The messages as they came. Raises a ValidationError that names each fault with its place."""
    if not isinstance(value, list):
        raise ValidationError(MESSAGES["list_type"])
    if not value:
        raise ValidationError(MESSAGES["too_short"])
    if len(value) > MAX_MESSAGES:
        raise ValidationError(MESSAGES["too_long"])
    faults = ((index, found) for index, message in enumerate(value) if (found := _faults(message, _MESSAGE)))
    if first_faults := dict(islice(faults, MAX_FAULTY_MESSAGES)):
        raise ValidationError(first_faults)
    return value


def _faults(value: object, checks: Mapping[str, Check], required: str = "role") -> Any:  # noqa: ANN401 - marshmallow's nested form
    """What is wrong with an object, by field; empty if nothing is."""
    if not isinstance(value, dict):
        return [MESSAGES["model_attributes_type"]]
    faults: dict[str, Any] = {}
    if value.get(required) is None:
        faults[required] = [MESSAGES["missing"]]
    found = ((name, fault) for name, entry in value.items() if (fault := _fault(checks.get(name), entry)))
    return faults | dict(islice(found, MAX_FAULTS))


def _fault(check: Check | None, value: object) -> Any:  # noqa: ANN401 - marshmallow's nested form
    """What is wrong with a field's value; a null is as good as an absent one."""
    if check is None:
        return [MESSAGES["extra_forbidden"]]
    if value is None:
        return None
    try:
        check(value)
    except ValidationError as error:
        return error.messages
    return None


@takes(type="string")
def _any_text(value: object) -> None:
    if not isinstance(value, str):
        raise ValidationError(MESSAGES["string_type"])


@takes(
    anyOf=[
        {"type": "string"},
        {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
    ]
)
def _content(value: object) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise ValidationError("Input should be a string or a list of parts")
    faults = ((index, found) for index, part in enumerate(value) if (found := _part_faults(part)))
    if first_faults := dict(islice(faults, MAX_FAULTS)):
        raise ValidationError(first_faults)


def _part_faults(part: object) -> Any:  # noqa: ANN401 - marshmallow's nested form
    if not isinstance(part, dict):
        return [MESSAGES["model_attributes_type"]]
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        return {"type": [PART_WORDS]}
    return _faults(part, {"type": _any_text, kind: _PARTS[kind]}, required=kind)


@takes(
    type="object",
    required=["url"],
    properties={
        "url": {"type": "string", "description": "http, https, or data:image/…;base64,…"},
        "detail": {"enum": ["auto", "low", "high", None]},
    },
    additionalProperties=False,
)
def _image_url(value: object) -> None:
    if faults := _faults(value, _IMAGE, required="url"):
        raise ValidationError(faults)


def _url(value: object) -> None:
    if not isinstance(value, str) or not _IMAGE_URL.match(value):
        raise ValidationError(IMAGE_URL_WORDS)


@takes(
    type="array",
    maxItems=MAX_TOOL_CALLS,
    items={
        "type": "object",
        "required": ["function"],
        "properties": {
            "function": {
                "type": "object",
                "required": ["name", "arguments"],
                "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
            }
        },
    },
)
def _tool_calls(value: object) -> None:
    if not isinstance(value, list) or len(value) > MAX_TOOL_CALLS:
        raise ValidationError(f"Input should be a list of at most {MAX_TOOL_CALLS} items")
    for index, tool_call in enumerate(value):
        if not _is_call(tool_call):
            raise ValidationError({index: [ARGUMENTS_WORDS]})


def _is_call(value: object) -> bool:
    function = json_object(value).get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and all(
        isinstance(function.get(name), str) for name in ("name", "arguments")
    )


@takes(description="Null or empty: clients send back what answers have.")
def _nothing(value: object) -> None:
    """A field of answers that clients send back empty."""
    if value:
        raise ValidationError("Input may only be null or empty here")


_PARTS: Mapping[str, Check] = {"text": _any_text, "refusal": _any_text, "image_url": _image_url}
_IMAGE: Mapping[str, Check] = {"url": _url, "detail": choice("auto", "low", "high")}
_MESSAGE: Mapping[str, Check] = {
    "role": text(MAX_WORD_CHARACTERS),
    "content": _content,
    "name": text(MAX_WORD_CHARACTERS),
    "tool_calls": _tool_calls,
    "tool_call_id": text(MAX_WORD_CHARACTERS),
    "refusal": _any_text,
    "reasoning": _any_text,
    "reasoning_content": _any_text,
    "annotations": _nothing,
    "audio": _nothing,
    "function_call": _nothing,
}
"""What a message may have; clients send back all that an answer's message had."""


def message_shape() -> dict[str, Any]:
    """A message, as JSON Schema. Null is as good as absent."""
    properties = {name: _or_null(check) for name, check in _MESSAGE.items()}
    properties["role"] = shape_of(_MESSAGE["role"])
    return {"type": "object", "required": ["role"], "properties": properties, "additionalProperties": False}


def part_shape() -> dict[str, Any]:
    """A part of a message's content, as JSON Schema: one of the kinds, with its own field."""
    return {
        "oneOf": [
            {
                "type": "object",
                "required": ["type", kind],
                "properties": {"type": {"const": kind}, kind: shape_of(check)},
                "additionalProperties": False,
            }
            for kind, check in _PARTS.items()
        ]
    }


def _or_null(check: Check) -> dict[str, Any]:
    return {"anyOf": [shape_of(check), {"type": "null"}]}
