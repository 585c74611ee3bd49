"""Bodies that take long to parse, to check or to count, each of another shape.

Most are sent to /v1/estimate: it computes all that a call computes before its hold, and refuses none for its
budget. So no limit ends the attack.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.http_request import INFERENCE_PATH, MODEL
from ridges_proxy.runtime.json_structure import MAX_MARKS, all_marks
from ridges_proxy.web.schemas.embeddings import MAX_INPUTS
from ridges_proxy.web.schemas.problems import MAX_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable

ESTIMATE_PATH = "/v1/estimate"
EMBEDDINGS_PATH = "/v1/embeddings"
BODY_BYTES = 4 << 20
SMALL_BODY_BYTES = 65_000

IMAGE_URL = "https://a.b/c"

MODEL_FIELD = f'"model":"{MODEL}"'
CHAT = f'{{{MODEL_FIELD},"messages":['
MESSAGE = '{"role":"user","content":"x"}'
MARKS = "e" + "\u0315\u0300" * 15
"""A letter with 30 combining marks in the wrong order. 32 in a row are not normalized."""


@dataclass(frozen=True)
class Shape:
    """A body of any size: a head, as many items as fit, and a tail."""

    path: str
    head: str
    item: Callable[[int], str]
    tail: str
    separator: str = ","
    max_items: int = MAX_MARKS
    """The most items that the schema of the request accepts."""

    def bodies(self) -> dict[str, bytes]:
        """The bodies that the benchmarks send, by the names of their sizes."""
        return {
            "4 MiB": self.largest(BODY_BYTES),
            "largest accepted": self.largest_accepted(BODY_BYTES),
            "64 kB": self.largest(SMALL_BODY_BYTES),
        }

    def largest(self, size_bytes: int) -> bytes:
        """A body with as many items as fit, whether or not they are accepted."""
        return self._body(size_bytes, size_bytes)

    def largest_accepted(self, size_bytes: int) -> bytes:
        """A body with as many items as are accepted."""
        marks = all_marks(f"{self.item(100)}{self.separator}".encode())
        items = MAX_MARKS - all_marks((self.head + self.tail).encode())
        return self._body(size_bytes, min(self.max_items, items // marks) if marks else size_bytes)

    def _body(self, size_bytes: int, max_items: int) -> bytes:
        items, left = [], size_bytes - len(self.head) - len(self.tail)
        for index in range(max_items):
            left -= len(self.item(index).encode()) + len(self.separator)
            if left < 0:
                break
            items.append(self.item(index))
        return (self.head + self.separator.join(items) + self.tail).encode()


def _tool(head: str, item: Callable[[int], str], tail: str) -> Shape:
    """A shape inside the parameters of a tool."""
    start = f'{CHAT}{MESSAGE}],"tools":[{{"type":"function","function":{{"name":"f","parameters":'
    return Shape(ESTIMATE_PATH, start + head, item, tail + "}}]}")


def _content(head: str, item: Callable[[int], str], tail: str) -> Shape:
    """A shape inside the content of a message."""
    return Shape(ESTIMATE_PATH, f'{CHAT}{{"role":"user","content":{head}', item, tail + "}]}")


def _text(text: str) -> Shape:
    """A content of one string."""
    return Shape(ESTIMATE_PATH, CHAT + '{"role":"user","content":"', lambda _: text, '"}]}', separator="")


def _arguments(item: str, head: str, tail: str) -> Shape:
    call = '{"id":"1","type":"function","function":{"name":"f","arguments":"' + head
    start = CHAT + '{"role":"assistant","content":null,"tool_calls":[' + call
    return Shape(ESTIMATE_PATH, start, lambda _: item, tail + '"}}]}]}')


def _definition(index: int) -> str:
    properties = {f"p{number}": {"type": "string", "description": "d"} for number in range(100)}
    function = {"name": f"f{index}", "parameters": {"type": "object", "properties": properties}}
    return json.dumps({"type": "function", "function": function}, separators=(",", ":"))


_IMAGE = f'{{"type":"image_url","image_url":{{"url":"{IMAGE_URL}"}}}}'
_CALLS = (
    '{"role":"assistant","content":null,"tool_calls":['
    '{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}'
)
_RESULT = '{"role":"tool","tool_call_id":"call","content":"x"}'

SHAPES = {
    "empty lists in a tool": _tool('{"x":[', lambda _: "[]", "]}"),
    "image parts": _content("[", lambda _: _IMAGE, "]"),
    "keys": _tool("{", lambda index: f'"k{index}":0', "}"),
    "lists in arguments": _arguments("[]", "[", "]"),
    "invalid at its end": _tool('{"x":[', lambda _: "{}", "]]"),
    "floats": _tool('{"x":[', lambda index: f"{index}.5e-9", "]}"),
    "escapes": _text(r"\u00e9\"\\"),
    "combining marks": _text(MARKS),
    "text parts": _content("[", lambda _: '{"type":"text","text":"x"}', "]"),
    "messages": Shape(ESTIMATE_PATH, CHAT, lambda _: MESSAGE, "]}", max_items=MAX_MESSAGES),
    "tool calls": Shape(ESTIMATE_PATH, CHAT, lambda _: _CALLS, "]}", max_items=MAX_MESSAGES),
    "results of tools": Shape(ESTIMATE_PATH, CHAT, lambda _: _RESULT, "]}", max_items=MAX_MESSAGES),
    "tool definitions": Shape(ESTIMATE_PATH, f'{CHAT}{MESSAGE}],"tools":[', _definition, "]}", max_items=512),
    "embeddings": Shape(
        EMBEDDINGS_PATH, '{"input":[', lambda _: f'"{"text " * 400}"', "]}", max_items=MAX_INPUTS
    ),
    "ignored fields, agents": Shape(
        INFERENCE_PATH, f'{{{MODEL_FIELD},"messages":[{MESSAGE}],"x":[', lambda _: "{}", "]}"
    ),
}
"""The shapes by name. The first ones were found by attacks."""
