"""Tool calls in the form of vLLM's streams, and in the form of a whole message."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable


def first_delta(number: int, name: str) -> dict[str, Any]:
    """Return the delta that opens a call: all but its arguments. It counts no token."""
    call = {
        "index": number,
        "id": f"chatcmpl-tool-{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    return {"tool_calls": [call]}


def argument_deltas(number: int, events: int) -> list[dict[str, Any]]:
    """Return a JSON object in at least three pieces, one delta each."""
    words = [f"word{n} " for n in range(1, max(events, 1) + 1)]
    texts = [f'{{"call": {number}, "text": "', *words, '"}']
    return [{"tool_calls": [{"index": number, "function": {"arguments": text}}]} for text in texts]


def given_delta(number: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a directive in one delta."""
    text = orjson.dumps(arguments).decode()
    return {"tool_calls": [{"index": number, "function": {"arguments": text}}]}


def joined(deltas: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the tool calls from their deltas."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", [])):
        if "id" in piece:
            calls[piece["index"]] = {
                "id": piece["id"],
                "type": piece["type"],
                "function": dict(piece["function"]),
            }
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return list(calls.values())
