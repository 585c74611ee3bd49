"""Scenarios of a client that takes and returns chats in OpenAI's form, and has no functions beyond that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serve import Ask

SCHEMA = {
    "type": "object",
    "properties": {"call": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["call", "text"],
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "search")
]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


class PlainChat:
    """The scenarios of whole answers.

    `complete` is the client's function for a chat. Its keywords are fields of the request.
    """

    def __init__(self, complete: Callable[..., Any]) -> None:
        self._complete = complete

    def chat(self, ask: Ask) -> dict[str, Any]:
        return {"text": self._complete(ask, [user(ask.prompt)]).choices[0].message.content}

    def tools(self, ask: Ask) -> dict[str, Any]:
        message = self._complete(ask, [user(ask.prompt)], tools=TOOLS).choices[0].message
        calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
        return self._with_results(ask, message, calls)

    def joined_tools(self, ask: Ask, pieces: Iterable[Any]) -> dict[str, Any]:
        """Join the pieces of streamed calls, and go on as with those of a whole answer."""
        calls: dict[int, list[str]] = {}
        for piece in pieces:
            call = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
            call[2] += piece.function.arguments
        called = [
            {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, name, arguments in calls.values()
        ]
        message = {"role": "assistant", "content": None, "tool_calls": called}
        return self._with_results(
            ask, message, [(number, name, text) for number, name, text in calls.values()]
        )

    def structured(self, ask: Ask) -> dict[str, Any]:
        form = {"name": "found", "schema": SCHEMA, "strict": True}
        schema: Any = {"type": "json_schema", "json_schema": form}
        answer = self._complete(ask, [user(ask.prompt)], response_format=schema)
        return {"value": json.loads(answer.choices[0].message.content)}

    def echo(self, ask: Ask) -> dict[str, Any]:
        first = self._complete(ask, [user(ask.prompt)]).choices[0].message
        second = self._complete(ask, [user(ask.prompt), first, user("go on")])
        return {"text": second.choices[0].message.content}

    def _with_results(self, ask: Ask, message: object, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
        """Send the message back, with a result for each of its calls: an id, a name and arguments."""
        results = [{"role": "tool", "tool_call_id": number, "content": "done"} for number, _, _ in calls]
        answer = self._complete(ask, [user(ask.prompt), message, *results], tools=TOOLS)
        called = [[name, json.loads(arguments)] for _, name, arguments in calls]
        return {"calls": called, "text": answer.choices[0].message.content}
