"""Arguments of a tool call in the history, as an inference engine parses them. Pure.

A client cannot change what a model wrote, so arguments of every form have a bound: invalid JSON, the NaN and
infinities of Python's parser, lone surrogates, and any depth.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.bounds import escape_bytes
from ridges_proxy.runtime.json_structure import MAX_MARKS, all_marks, marks, outside_strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_DEPTH = 124
"""Levels up to which parsed arguments are measured. With the call around them, orjson writes this depth."""

INDENT = 4
"""Spaces per level in the widest indentation that templates use."""

TOKENS_PER_KEY = 16
"""Allowance for the XML that some templates write around each key of a tool's JSON: Qwen3-Coder's writes 28
tokens for a parameter, which has at least two keys (its name and `type`)."""

NUMBER_BYTES = 24
"""The longest number that Python writes: -2.2250738585072014e-308."""

_MAX_INTEGER = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}
_OTHERS = bytes(set(range(256)) - _STEPS.keys())


def may_be_parsed(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all arguments of a history together have at most as many values as a body may have."""
    texts = [
        call["function"]["arguments"].encode()
        for message in messages
        for call in message.get("tool_calls") or ()
    ]
    return sum(map(all_marks, texts)) <= MAX_MARKS or sum(map(marks, texts)) <= MAX_MARKS


def parsed_arguments(text: str, *, parse: bool = True) -> tuple[Any, int]:
    """Return the arguments as an engine parses them, and the tokens to add for what that does not show.

    Invalid JSON stays a text: a template writes it as it is. So do arguments that are nested too deeply to be
    measured, and all without `parse`: the tokens are then an upper bound of what a template adds to the text.
    """
    if not parse:
        return text, _added_tokens(text.encode())
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = _python_value(text)
        except ValueError:
            return text, 0
        except RecursionError:
            return text, _added_tokens(text.encode())
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(value):
        return text, _added_tokens(text.encode())
    return value, 0


def _python_value(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse as Python does, which many engines use: NaN, infinities and lone surrogates are valid there.

    A lone surrogate becomes the six characters of its escape: it has no UTF-8 form.
    """
    value = json.loads(text, parse_int=_number)
    written = json.dumps(value, ensure_ascii=False)
    if not _SURROGATE.search(written):
        return value
    return json.loads(_SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):04x}", written))


def _number(digits: str) -> float:
    """Return a number that orjson can write."""
    number = int(digits)
    return number if -_MAX_INTEGER <= number < _MAX_INTEGER else float(digits)


def _is_too_deep(value: object) -> bool:
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        level = _containers(
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        )
        if not level:
            return False
    return True


def _containers(values: Iterable[object]) -> list[dict[str, object] | list[object]]:
    return [value for value in values if isinstance(value, dict | list) and value]


def _added_tokens(text: bytes) -> int:
    """Return the most tokens that a template adds to arguments; 0 if brackets do not match: that is no JSON.

    These are a line break and an indentation at each bracket and comma, longer forms of numbers, and at each
    key an XML element and escapes.
    """
    depth = depths_sum = marks_count = keys = 0
    for outside in outside_strings(text):
        depths = list(accumulate(map(_STEPS.__getitem__, outside.translate(None, _OTHERS)), initial=depth))
        if min(depths) < 0:
            return 0
        depth, depths_sum = depths[-1], depths_sum + sum(depths[1:])
        marks_count, keys = marks_count + len(depths) - 1, keys + outside.count(b":")
    if depth or not marks_count:
        return 0
    return (
        INDENT * depths_sum
        + marks_count
        + NUMBER_BYTES * (marks_count + 1)
        + TOKENS_PER_KEY * keys
        + escape_bytes(text)
    )
