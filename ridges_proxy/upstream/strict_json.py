"""JSON of an upstream, which may have NaN and infinities, made strict. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE_BYTES = 131_072
"""Size of a JSON text that takes 1.6 ms to parse."""

_STRING_OR_CONSTANT = re.compile(
    rb""" " [^"\\]*+ (?: \\. [^"\\]*+ )*+ "?+
      | (?<! [\w.+-] ) (?P<constant> NaN | -?Infinity ) (?! [\w.+-] )
    """,
    re.VERBOSE | re.DOTALL,
)

_CONSTANTS = {b"-Infinity": b"-9999.0"}
"""vLLM sends this number for the logarithm of a probability of 0. NaN and Infinity become null."""


def strict_json(data: bytes) -> bytes | None:
    """Return data with null or a number for NaN and infinities outside strings. None for data without them.

    Python's `json` writes them, but JSON has no form for them, and most clients refuse them.
    """
    if b"NaN" not in data and b"Infinity" not in data:
        return None
    pieces: list[bytes] = []
    start = 0
    for match in _STRING_OR_CONSTANT.finditer(data):
        if constant := match["constant"]:
            pieces += data[start : match.start()], _CONSTANTS.get(constant, b"null")
            start = match.end()
    return b"".join([*pieces, data[start:]])


def parse_json(data: bytes) -> tuple[bytes, Any]:
    """Return the data as strict JSON, and its value. Raises orjson.JSONDecodeError if it is no JSON."""
    try:
        return data, orjson.loads(data)
    except orjson.JSONDecodeError:
        strict = strict_json(data)
        if strict is None:
            raise
        return strict, orjson.loads(strict)


def _without_log_probability(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return an object of a message or an answer; None for one of a token."""
    return None if "logprob" in value else value


def parse_large_json(
    data: bytes, object_hook: Callable[[dict[str, Any]], object] = _without_log_probability
) -> tuple[bytes, Any]:
    """Return what `parse_json` returns, but with null for each token's log probability in the value.

    Another `object_hook` may return other values for these objects, which should be as small.

    For use in a thread: the hub runs in between, because functions in Python read each object and number.
    A parser in C stops all other threads: for 1 s with 32 MiB, which are log probabilities if they are that
    large. To free these at the end would stop them again, so they are dropped at once.

    Raises ValueError if the data is no JSON. Unlike `parse_json`, it accepts lone surrogates.
    """
    constants: list[str] = []
    parser = json.JSONDecoder(
        object_hook=object_hook,
        parse_float=lambda number: float(number),  # noqa: PLW0108 - `float` itself would be called in C
        parse_constant=constants.append,
    )
    try:
        value = parser.decode(data.decode())
    except RecursionError:
        raise ValueError from None
    return (strict_json(data) or data) if constants else data, value
