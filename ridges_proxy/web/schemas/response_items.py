"""Types of the items in the `input` of `POST /v1/responses`."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat_messages import (
    ASSISTANT,
    MAX_WORD_CHARACTERS,
    ByRole,
    ImageUrl,
    MessageObject,
    PartList,
    dropped_parts,
    tagged,
)
from ridges_proxy.web.schemas.containers import List, StringOr
from ridges_proxy.web.schemas.field_table import (
    RESPONSE_ASSISTANT_MESSAGE,
    RESPONSE_ASSISTANT_PART_TYPES,
    RESPONSE_ITEM,
    RESPONSE_PART,
    RESPONSE_PART_TYPES,
    Place,
)
from ridges_proxy.web.schemas.problems import MAX_FAULTY_MESSAGES, MAX_MESSAGES
from ridges_proxy.web.schemas.tools import MAX_FUNCTION_NAME_CHARACTERS
from ridges_proxy.web.schemas.values import Choice, Inert, String, Text, Value

REASONING_ID = "rs_"
"""Beginning of the ids of reasoning items."""

ITEM_MESSAGE = (
    "Input should be a message, function_call, function_call_output or reasoning: other items belong to tools"
    " that are not available here"
)
PART_MESSAGE = (
    "Input should be input_text, output_text, refusal or input_image: other kinds of parts cannot be bounded"
    " here"
)
REFERENCE_MESSAGE = (
    "Items are not stored here, so a reference to one has no meaning: send the item itself (the AI SDK"
    " does with its option store: false)"
)


class InputItems(List):
    """The items of an input."""

    max_errors = MAX_FAULTY_MESSAGES

    def __init__(self) -> None:
        super().__init__(InputItem(), 1, MAX_MESSAGES)


class InputItem(Value):
    """An item of an input. Clients send back the items of an answer, with all their fields."""

    component = "InputItem"

    def __init__(self) -> None:
        self._kinds: dict[str, Value] = {
            "message": ByRole(
                _message(
                    Choice(ASSISTANT, required=True),
                    RESPONSE_ASSISTANT_PART_TYPES,
                    RESPONSE_ASSISTANT_MESSAGE,
                ),
                _message(Choice("user", ASSISTANT, "system", "developer", required=True)),
            ),
            "function_call": _function_call(),
            "function_call_output": _function_call_output(),
            "reasoning": _reasoning(),
            "item_reference": _reference(),
        }
        super().__init__({"anyOf": [each.json_schema for each in self._kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """An item. One without a type is a message."""
        return tagged(self._kinds, value, ITEM_MESSAGE, default="message")


class InputPart(Value):
    """A part of a message or of a function's output."""

    def __init__(self, types: Place = RESPONSE_PART_TYPES) -> None:
        self.component = "InputPart" if types is RESPONSE_PART_TYPES else "AssistantInputPart"
        detail = Choice("auto", "low", "high", "original")
        self._kinds: dict[str, Value] = {
            "input_text": _text("input_text"),
            "output_text": _text("output_text"),
            "text": _text("text"),
            "refusal": _part("refusal", refusal=String(required=True)),
            "input_image": _part("input_image", image_url=_TextImageUrl(), detail=detail),
            **dropped_parts(types),
        }
        super().__init__({"anyOf": [each.json_schema for each in self._kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A part, or `missing` if parts of its type are dropped."""
        return tagged(self._kinds, value, PART_MESSAGE)


class _TextImageUrl(String):
    """The URL of an image, as a chat accepts it."""

    def __init__(self) -> None:
        super().__init__(required=True)
        self._url = ImageUrl()

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        return self._url.read(super().read(value))


class _KnownReference(Value):
    """The id of a stored item. Reasoning of earlier turns is not needed; other items are."""

    def __init__(self) -> None:
        super().__init__({"type": "string", "pattern": f"^{REASONING_ID}"}, required=True)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        if not isinstance(value, str) or not value.startswith(REASONING_ID):
            raise ValidationError(REFERENCE_MESSAGE)
        return value


def _item(kind: str, **properties: Value) -> MessageObject:
    return MessageObject({"type": Choice(kind, required=True), **properties}, RESPONSE_ITEM)


def _part(kind: str, **properties: Value) -> MessageObject:
    return MessageObject({"type": Choice(kind, required=True), **properties}, RESPONSE_PART)


def _text(kind: str) -> MessageObject:
    return _part(kind, text=String(required=True))


def _content(types: Place = RESPONSE_PART_TYPES) -> StringOr:
    return StringOr(String(), PartList(InputPart(types)), required=True)


def _message(role: Value, types: Place = RESPONSE_PART_TYPES, place: Place = RESPONSE_ITEM) -> MessageObject:
    """A message. Its `type` may be absent."""
    return MessageObject({"type": Inert(), "role": role, "content": _content(types)}, place)


def _function_call() -> MessageObject:
    return _item(
        "function_call",
        call_id=Text(MAX_WORD_CHARACTERS, required=True),
        name=Text(MAX_FUNCTION_NAME_CHARACTERS, required=True),
        namespace=Text(MAX_FUNCTION_NAME_CHARACTERS),
        arguments=String(required=True),
    )


def _function_call_output() -> MessageObject:
    """The output of a call. Its name repeats that of the call."""
    return _item(
        "function_call_output",
        call_id=Text(MAX_WORD_CHARACTERS, required=True),
        output=_content(),
        name=Inert(),
        namespace=Inert(),
    )


def _reasoning() -> MessageObject:
    return _item(
        "reasoning", summary=List(_text("summary_text"), 0), content=List(_text("reasoning_text"), 0)
    )


def _reference() -> MessageObject:
    return MessageObject(
        {"type": Choice("item_reference", required=True), "id": _KnownReference()}, RESPONSE_ITEM
    )
