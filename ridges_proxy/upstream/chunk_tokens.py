"""One chunk of a streamed answer: what it says, and the most tokens that it can count. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import UpstreamBrokenError

if TYPE_CHECKING:
    from ridges_proxy.upstream.sse import Event

DONE = b"[DONE]"
"""The data of the event that ends a stream."""


def parse(event: Event) -> dict[str, Any]:
    """The chunk in an event. Raises UpstreamBrokenError for an error, and for what is none."""
    if event.bare:
        raise UpstreamBrokenError
    try:
        chunk = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        raise UpstreamBrokenError from None
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise UpstreamBrokenError
    return chunk


def list_in(value: object) -> list[object]:
    """A list that may be absent or null. Raises UpstreamBrokenError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UpstreamBrokenError
    return value


def bound_of(delta: dict[str, Any]) -> int:
    """The most tokens that a delta can count: its texts' UTF-8 bytes, and 1 for a token without text."""
    size_bytes = 0
    for key, value in delta.items():
        if value and key != "role":
            size_bytes += len(value) if isinstance(value, str) and value.isascii() else _text_bytes(value)
    return size_bytes or int("content" in delta)


def text_bytes_in(message: dict[str, Any]) -> int:
    """UTF-8 bytes of what a message or delta says: its texts, and the arguments of its calls.

    Tokens are made of these; the forms around them count nothing.
    """
    said = [value for key, value in message.items() if isinstance(value, str) and key != "role"]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            said.append(function["arguments"])
    return sum(len(text.encode()) for text in said)


def says_something(delta: dict[str, Any]) -> bool:
    """Whether a delta has more than a role."""
    for key, value in delta.items():  # noqa: SIM110 - as any() it takes three times as long, for each event
        if value and key != "role":
            return True
    return False


def unread_tokens(event: Event) -> int:
    """The most tokens in an event that came behind the one that ended the reading."""
    if event.data == DONE:
        return 0
    try:
        choices = list_in(parse(event).get("choices"))
    except UpstreamBrokenError:
        return senseless_tokens(event.data)
    deltas = [choice.get("delta") or {} if isinstance(choice, dict) else None for choice in choices]
    return sum(bound_of(delta) if isinstance(delta, dict) else len(event.data) for delta in deltas)


def senseless_tokens(data: bytes) -> int:
    """The most tokens in an event that is not understood: its bytes, unless it is an error and no answer."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return len(data)
    return 0 if isinstance(value, dict) and "choices" not in value else len(data)


def written(value: object) -> bytes:
    """A value as JSON. Raises UpstreamBrokenError where that cannot be."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes, though not deeper than it reads
        raise UpstreamBrokenError from None


def _text_bytes(value: object) -> int:
    """UTF-8 bytes of all strings in a value, whatever its shape (tool calls are nested)."""
    if isinstance(value, str):
        return len(value.encode("utf-8"))
    if not isinstance(value, dict | list) or not value:
        return 0
    return len(written(value))
