"""Parsing of one chunk of a streamed completion, and upper bounds of its tokens. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.runtime.json_structure import MAX_MARKS, is_too_complex
from ridges_proxy.upstream.strict_json import parse_json

if TYPE_CHECKING:
    from ridges_proxy.upstream.sse import Event

DONE = b"[DONE]"
"""The data of the event that ends a stream."""


def is_done(event: Event) -> bool:
    """Whether the event ends a stream. Some servers write spaces around its data."""
    return event.data == DONE or (event.data[:1] != b"{" and event.data.strip() == DONE)


def parse_chunk(event: Event) -> tuple[bytes, dict[str, Any]]:
    """Return the data of an event as strict JSON, and the chunk in it.

    Raises UpstreamBrokenError for an error object, and for data that is invalid or too complex for a chunk.
    """
    data = event.data
    # The size first: that saves a call for each event.
    if event.bare or (len(data) > MAX_MARKS and is_too_complex(data)):
        raise UpstreamBrokenError
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        data, chunk = _parse_as_strict_json(data)
    if not isinstance(chunk, dict) or chunk.get("error") or chunk.get("object") == "error":
        raise UpstreamBrokenError
    return data, chunk


def _parse_as_strict_json(data: bytes) -> tuple[bytes, Any]:
    try:
        return parse_json(data)
    except orjson.JSONDecodeError:
        raise UpstreamBrokenError from None


def optional_list(value: object) -> list[object]:
    """Return a list that may be null or missing. Raises UpstreamBrokenError for any other type."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UpstreamBrokenError
    return value


def max_tokens_of(delta: dict[str, Any]) -> int:
    """Return an upper bound of a delta's tokens: the UTF-8 bytes of its texts, or 1 if they are empty."""
    size_bytes = 0
    for key, value in delta.items():
        if value and key != "role":
            size_bytes += len(value) if isinstance(value, str) and value.isascii() else _size_bytes(value)
    if "reasoning_content" in delta:
        size_bytes -= _repeated_bytes(delta)
    return size_bytes or int("content" in delta)


def text_bytes_of(message: dict[str, Any]) -> int:
    """Return the UTF-8 bytes of the texts in a message or delta, and of the arguments of its tool calls.

    The JSON around them is not counted: the model did not generate it.
    """
    texts = [value for key, value in message.items() if isinstance(value, str) and key != "role"]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            texts.append(function["arguments"])
    return sum(len(text.encode()) for text in texts) - _repeated_bytes(message)


def has_content(delta: dict[str, Any]) -> bool:
    """Whether a delta contains more than a role."""
    for key, value in delta.items():  # noqa: SIM110 - `any()` takes three times as long, for each event
        if value and key != "role":
            return True
    return False


def max_tokens_of_unread(event: Event) -> int:
    """Return an upper bound of the tokens in an event that was received after the reader stopped."""
    if is_done(event):
        return 0
    try:
        _, chunk = parse_chunk(event)
        choices = optional_list(chunk.get("choices"))
    except UpstreamBrokenError:
        return max_tokens_of_invalid(event.data)
    deltas = [choice.get("delta") or {} if isinstance(choice, dict) else None for choice in choices]
    return sum(max_tokens_of(delta) if isinstance(delta, dict) else len(event.data) for delta in deltas)


def max_tokens_of_invalid(data: bytes) -> int:
    """Return an upper bound of the tokens in an invalid event: its bytes, or 0 for an error."""
    if is_too_complex(data):
        return len(data)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return len(data)
    return 0 if isinstance(value, dict) and "choices" not in value else len(data)


def to_json(value: object) -> bytes:
    """Serialize a value. Raises UpstreamBrokenError if that is not possible."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # orjson parses deeper nesting than it serializes
        raise UpstreamBrokenError from None


def arguments_in(function: dict[str, Any]) -> str:
    """Return the arguments of a tool's function, or a piece of them; empty if they are no arguments.

    Raises UpstreamBrokenError for an object that cannot be serialized.
    """
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # Ollama's form
        return to_json(arguments).decode()
    return arguments if isinstance(arguments, str) else ""


def _repeated_bytes(message: dict[str, Any]) -> int:
    """Return the size of reasoning that is sent a second time under the other of its two names."""
    reasoning = message.get("reasoning")
    if isinstance(reasoning, str) and reasoning == message.get("reasoning_content"):
        return len(reasoning.encode())
    return 0


def _size_bytes(value: object) -> int:
    """Return the UTF-8 bytes of a text, or the size of a nested value (tool calls) as JSON."""
    if isinstance(value, str):
        return len(value.encode("utf-8"))
    if not isinstance(value, dict | list) or not value:
        return 0
    return len(to_json(value))
