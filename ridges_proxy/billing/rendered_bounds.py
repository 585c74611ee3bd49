"""Upper bounds for the tokens of values that chat templates render into the prompt. Pure.

A template writes tools, tool calls and schemas in its own format, so their size in the request is no bound.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.bounds import (
    TOKENS_PER_CALL,
    TOKENS_PER_MESSAGE,
    escape_bytes,
    least_text_bytes,
    text_bound_bytes,
)
from ridges_proxy.billing.call_arguments import INDENT, TOKENS_PER_KEY, parsed_arguments
from ridges_proxy.billing.repeats import may_be_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_IMAGE_TOKENS = 16_384
"""The maximum tokens of one image of any size: Qwen2.5-VL and Qwen3-VL count 12,845,056 pixels at 28 x 28
pixels a token. The other model families that Chutes serves stay below 4,096."""

TOKENS_FOR_TOOLS = 1_024
"""Allowance for a template's general instructions about tools: the longest known (Llama 4's) has about 560
tokens; doubled, and rounded down."""

TOKENS_PER_PART = 16
"""Allowance for the markers around a part of a content: GLM writes one element for each part of a result."""

_STRINGS = re.compile(rb'("(?:name|type)":"[^"]*+"|"[^"]*+":)|"[^"]*+"')
"""All strings of a compact JSON without escapes. The group has those that Hermes' template writes up to three
times, in a signature, in its documentation and in a schema: keys, and the strings under `name` and `type`."""

_ESCAPES = ((rb"\\", b"\0\0"), (rb"\"", b"\1\1"))
"""Escapes that the search for strings would have to follow one by one: 4 MiB of them took 300 ms, in which no
other thread ran. JSON has no control characters, so they can stand for the escapes meanwhile."""

MAX_DEPTH = 128
"""Maximum levels of lists and objects in one value. orjson writes 254 levels, including those around it."""

NESTED_TOO_DEEPLY = "Input is nested too deeply"

SEPARATOR_BYTES = 1
"""The comma behind a message; behind the last one, a bracket of the list."""

CALL_BOUND_TOKENS = TOKENS_PER_CALL + SEPARATOR_BYTES
"""The maximum tokens of a prompt without messages and rendered fields, with the list's other bracket."""


class UncountableError(ValueError):
    """A value whose rendered size has no known bound. The message gives the reason."""


def rendered_bound_tokens(value: object) -> int:
    """Return the maximum tokens of a JSON value in a prompt, for every format that templates use.

    A template may write each text twice, and each name three times. The bound is the sum of: its bytes as
    sent; its bytes as Python writes it (1e15 becomes 1000000000000000.0); the bytes of its names, with XML
    escapes; an indentation of INDENT spaces per level; TOKENS_PER_KEY for each key.
    Raises UncountableError for a value that is nested deeper than MAX_DEPTH.
    """
    indentation = indentation_bytes(value)
    compact = orjson.dumps(value)
    names = compact_names(compact)
    return (
        text_bound_bytes(compact)
        + _written_bytes(value)
        + text_bound_bytes(names)
        + escape_bytes(names)
        + indentation
        + compact.count(b'":') * TOKENS_PER_KEY
    )


def message_bound_tokens(message: Mapping[str, Any], sent: bytes, *, parse: bool) -> int:
    """Return the maximum tokens of one message: its JSON as sent, the template's markers, images, tool calls.

    Without `parse`, the bound of tool calls follows from their arguments' text, and is larger.
    Raises UncountableError for tool calls that are nested too deeply.
    """
    tokens = text_bound_bytes(sent) + SEPARATOR_BYTES + TOKENS_PER_MESSAGE
    if isinstance(name := message.get("name"), str):
        tokens += escape_bytes(name.encode())
    if isinstance(content := message.get("content"), list):
        tokens += _part_tokens(content)
    elif isinstance(content, str) and may_be_result(message.get("role")):
        tokens += TOKENS_PER_PART + python_escape_bytes(content)  # engines may pass it on as one part
    if tool_calls := message.get("tool_calls"):
        tokens += sum(_tool_call_tokens(each, parse=parse) for each in tool_calls)
    return tokens


def field_bound_tokens(name: str, value: object) -> int:
    """Return the maximum tokens of a field that is rendered into the prompt.

    Raises UncountableError for a value that is nested too deeply.
    """
    return rendered_bound_tokens(value) + (TOKENS_FOR_TOOLS if name == "tools" else 0)


def indentation_bytes(value: object) -> int:
    """Return the bytes of line breaks and indentation. Computed without writing the indented text.

    The indented text can be 200 times as long as the value.
    """
    size_bytes, level = 0, _non_empty_containers([value])
    for depth in range(1, MAX_DEPTH + 1):
        lines = sum(map(len, level))
        size_bytes += lines * (1 + INDENT * depth) + len(level) * (1 + INDENT * (depth - 1))
        level = _non_empty_containers(
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        )
        if not level:
            return size_bytes
    raise UncountableError(NESTED_TOO_DEEPLY)


def _non_empty_containers(values: Iterable[object]) -> list[dict[str, object] | list[object]]:
    return [value for value in values if isinstance(value, dict | list) and value]


def compact_names(compact: bytes) -> bytes:
    """Return all keys of a compact JSON, and the strings under `name` and `type`, one behind the other."""
    for escape, stand_in in _ESCAPES:
        compact = compact.replace(escape, stand_in)
    names = b"".join(_STRINGS.findall(compact))
    for escape, stand_in in _ESCAPES:
        names = names.replace(stand_in, escape)
    return names


def count_of_texts(compact: bytes) -> int:
    """Return the number of texts in a compact JSON; a key and a name with its key count as one."""
    return sum(1 for _ in _STRINGS.finditer(compact))


def _written_bytes(value: object) -> int:
    """Return the maximum bytes of a value as Python writes it: as JSON, or as a text of its own.

    The latter escapes characters that are not printable: a byte can become four.
    """
    forms = (json.dumps(value, ensure_ascii=False), repr(value))
    return max(text_bound_bytes(form.encode()) for form in forms)


def _part_tokens(parts: list[dict[str, Any]]) -> int:
    """Return the tokens of a content's parts beyond their bytes as sent.

    These are the markers around each part, the escapes of a template that writes parts as Python does, and
    what is missing from the bytes of each image's URL to MAX_IMAGE_TOKENS.
    """
    texts = [part for part in parts if part["type"] != "image_url"]
    urls = (part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    escapes_bytes = max(0, len(repr(texts).encode()) - len(orjson.dumps(texts)))
    image_tokens = sum(max(0, MAX_IMAGE_TOKENS - len(url)) for url in urls)
    return len(parts) * TOKENS_PER_PART + escapes_bytes + image_tokens


def python_escape_bytes(text: str) -> int:
    """Return the maximum bytes by which a text grows where it is written as Python does, and not as JSON.

    Of ASCII, the characters are counted: Python's form of a long text takes ten times as long.
    """
    if not text.isascii():
        return max(0, len(repr(text).encode()) - len(orjson.dumps(text)))
    quotes = text.count('"')
    escaped_quotes = max(0, text.count("'") - quotes) if quotes else 0
    return escaped_quotes + 3 * text.count("\x7f") + 2 * (text.count("\b") + text.count("\f"))


def _tool_call_tokens(tool_call: Mapping[str, Any], *, parse: bool) -> int:
    """Return the tokens of a tool call beyond its bytes as sent. A template writes it once, in any format."""
    parsed, added_tokens = with_parsed_arguments(tool_call, parse=parse)
    compact = orjson.dumps(parsed)
    rendered_tokens = (
        _written_bytes(parsed)
        + escape_bytes(compact_names(compact))
        + indentation_bytes(parsed)
        + compact.count(b'":') * TOKENS_PER_KEY
    )
    return max(0, rendered_tokens - least_text_bytes(orjson.dumps(tool_call))) + added_tokens


def with_parsed_arguments(tool_call: Mapping[str, Any], *, parse: bool) -> tuple[dict[str, Any], int]:
    """Parse the arguments, as inference engines do before the template renders them.

    Also returns the tokens to add for arguments that are not parsed here.
    """
    function = tool_call["function"]
    arguments, added_tokens = parsed_arguments(function["arguments"], parse=parse)
    return {**tool_call, "function": {**function, "arguments": arguments}}, added_tokens
