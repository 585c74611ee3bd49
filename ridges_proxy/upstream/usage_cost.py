"""The cost of a call inside the usage of its answer. Pure.

The name and the place are OpenRouter's: `usage.cost`, in USD.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.upstream.large_json import parse_large_json
from ridges_proxy.upstream.strict_json import LARGE_BYTES, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.billing.prices import Usage

_NAME = b'"usage"'
_KEY = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*')

MAX_USAGE_BYTES = 65_536
"""Largest usage that gets the cost. A usual one has 300 bytes."""

MAX_KEYS = 32
"""Keys of this name that are tried, from the last one on. An ordinary answer has one."""

MAX_TRIED_BYTES = 64 << 20
"""The bytes behind all keys that are tried: about two seconds."""


def with_cost(answer: bytes, cost_nanousd: int, unreported: Usage) -> bytes:
    """Return the answer, a JSON object, with the cost in its usage. The other bytes stay the same.

    An answer in which no usage is found gets one: the tokens in `unreported`, and the cost. A usage with a
    cost of the upstream is written again. An answer above LARGE_BYTES should be read in a thread.
    """
    cost = {"cost": usd_from_nanousd(cost_nanousd)}
    tokens = {
        "prompt_tokens": unreported.prompt_tokens,
        "completion_tokens": unreported.completion_tokens,
        "total_tokens": unreported.prompt_tokens + unreported.completion_tokens,
    }
    for start in _keys(answer):
        tail = _tail_with(answer[start:], cost, tokens)
        if tail is not None:
            return answer[:start] + tail
    # As the last member it also counts for clients that find two of this name.
    return answer.rstrip()[:-1] + b"," + orjson.dumps({"usage": tokens | cost})[1:]


def _keys(answer: bytes) -> Iterator[int]:
    """Yield where the name `usage` is a key of any object, from the last one on.

    Inside a string a quote has a backslash, so a name without one in front of it is no part of a string.
    """
    end, bytes_left = len(answer), MAX_TRIED_BYTES
    for _ in range(MAX_KEYS):
        end = answer.rfind(_NAME, 0, end)
        bytes_left -= len(answer) - end
        if end < 0 or bytes_left < 0:
            return
        if answer[end - 1 : end] != b"\\":
            yield end


def _tail_with(tail: bytes, cost: dict[str, float], tokens: dict[str, int]) -> bytes | None:
    """Return an answer from its key `usage` on, with the cost; None if this is not the usage of the answer.

    The key belongs to the answer itself, and to no object inside, if only one object is left to be closed.
    """
    key = _KEY.match(tail)
    if key is None:
        return None
    parse = parse_large_json if len(tail) > LARGE_BYTES else parse_json
    try:
        parse(b"{" + tail)
        usage, rest = _first_value(tail[key.end() :])
    except (ValueError, RecursionError):
        return None
    if isinstance(usage, dict) and "cost" not in usage:  # its other bytes can stay
        comma = b"," if usage else b""
        return key[0] + b"{" + orjson.dumps(cost)[1:-1] + comma + tail[key.end() + 1 :]
    return key[0] + orjson.dumps((usage if isinstance(usage, dict) else tokens) | cost) + rest


def _first_value(data: bytes) -> tuple[Any, bytes]:
    """Return the first JSON value in the data, and what follows it. Raises ValueError or RecursionError.

    A value above MAX_USAGE_BYTES is cut, and so is none, even if what is left of it is a number.
    """
    text = data[:MAX_USAGE_BYTES].decode(errors="ignore")
    _, end = JSONDecoder().raw_decode(text)
    value = text[:end].encode()
    if len(value) == MAX_USAGE_BYTES:
        raise ValueError
    return orjson.loads(value), data[len(value) :]
