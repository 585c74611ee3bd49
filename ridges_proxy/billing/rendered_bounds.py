"""Upper bounds for the tokens of values that chat templates render into the prompt. Pure.

A template writes tools, tool calls and schemas in its own format, so their size in the request is no bound.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.bounds import TOKENS_PER_CALL, TOKENS_PER_MESSAGE, text_bound_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_IMAGE_TOKENS = 16_384
"""The maximum tokens of one image of any size: Qwen2.5-VL and Qwen3-VL count 12,845,056 pixels at 28 x 28
pixels a token. The other model families that Chutes serves stay below 4,096."""

TOKENS_FOR_TOOLS = 1_024
"""Allowance for a template's general instructions about tools: the longest known (Qwen3-Coder's) has about
400 tokens; doubled, and rounded up."""

TOKENS_PER_KEY = 16
"""Allowance for the XML that some templates write around each key of a tool's JSON: Qwen3-Coder's writes 28
tokens for a parameter, which has at least two keys (its name and `type`)."""

INDENT = 4
"""Spaces per level in the widest indentation that templates use."""

MAX_DEPTH = 128
"""Maximum levels of lists and objects in one value. orjson writes 254 levels, including those around it."""

NESTED_TOO_DEEPLY = "Input is nested too deeply"
NO_STRICT_JSON = (
    "The arguments of a call may not have NaN, infinities or lone surrogates, nor be nested too deeply"
)

SEPARATOR_BYTES = 1
"""The comma behind a message; behind the last one, a bracket of the list."""

CALL_BOUND_TOKENS = TOKENS_PER_CALL + SEPARATOR_BYTES
"""The maximum tokens of a prompt without messages and rendered fields, with the list's other bracket."""

RENDERED_FIELDS = frozenset({"tools", "tool_choice", "response_format", "chat_template_kwargs"})
"""Fields of a request, beside the messages, that chat templates render into the prompt."""


class UncountableError(ValueError):
    """A value whose rendered size has no known bound. The message gives the reason."""


def rendered_bound_tokens(value: object) -> int:
    """Return the maximum tokens of a JSON value in a prompt, for every format that templates use.

    The bound is the sum of: its bytes as sent; its bytes as Python writes it (1e15 becomes
    1000000000000000.0); an indentation of INDENT spaces per level; TOKENS_PER_KEY for each key.
    Raises UncountableError for a value that is nested deeper than MAX_DEPTH.
    """
    indentation_bytes = _indentation_bytes(value)
    compact = orjson.dumps(value)
    written_by_python = json.dumps(value, ensure_ascii=False)
    keys = compact.count(b'":')
    return (
        text_bound_bytes(compact)
        + text_bound_bytes(written_by_python.encode())
        + indentation_bytes
        + keys * TOKENS_PER_KEY
    )


def message_bound_tokens(message: Mapping[str, Any], sent: bytes) -> int:
    """Return the maximum tokens of one message: its JSON as sent, the template's markers, images, tool calls.

    Raises UncountableError for tool calls without a known bound.
    """
    return (
        text_bound_bytes(sent)
        + SEPARATOR_BYTES
        + TOKENS_PER_MESSAGE
        + _image_tokens(message.get("content"))
        + _tool_call_tokens(message.get("tool_calls"))
    )


def field_bound_tokens(name: str, value: object) -> int:
    """Return the maximum tokens of a field that is rendered into the prompt.

    Raises UncountableError for a value that is nested too deeply.
    """
    return rendered_bound_tokens(value) + (TOKENS_FOR_TOOLS if name == "tools" else 0)


def _indentation_bytes(value: object) -> int:
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


def _image_tokens(content: object) -> int:
    """Return the tokens to add to the bytes of each image's URL to reach MAX_IMAGE_TOKENS."""
    if not isinstance(content, list):
        return 0
    urls = (part["image_url"]["url"] for part in content if part["type"] == "image_url")
    return sum(max(0, MAX_IMAGE_TOKENS - len(url)) for url in urls)


def _tool_call_tokens(tool_calls: object) -> int:
    """Return the bound of tool calls as templates render them, with their arguments parsed as JSON."""
    if not isinstance(tool_calls, list):
        return 0
    return sum(
        rendered_bound_tokens({**each, "function": _with_parsed_arguments(each["function"])})
        for each in tool_calls
    )


def _with_parsed_arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the arguments, as inference engines do before the template renders them."""
    arguments = function["arguments"]
    try:
        return {**function, "arguments": orjson.loads(arguments)}
    except orjson.JSONDecodeError:
        if _python_parses(arguments):
            raise UncountableError(NO_STRICT_JSON) from None
        return {**function, "arguments": arguments}


def _python_parses(text: str) -> bool:
    """Return whether Python's JSON parser accepts the text: engines use it, and it allows NaN and infinities.

    A text that is too deep for it here counts as accepted: an engine may allow more levels.
    """
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
