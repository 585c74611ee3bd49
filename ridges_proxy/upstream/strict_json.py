"""JSON of an upstream, which may have NaN and infinities, made strict. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

from ridges_proxy.runtime.json_structure import MAX_MARKS

LARGE_BYTES = 131_072
"""Size of a JSON text that takes 1.6 ms to parse."""

_STRING_OR_CONSTANT = re.compile(
    rb""" [^"NI-]*+
      (?: " [^"\\]*+ (?: \\. [^"\\]*+ )*+ "?+
      | (?<! [\w.+-] ) (?P<constant> NaN | -?Infinity ) (?! [\w.+-] )
      | [NI-] | \Z
      )
    """,
    re.VERBOSE | re.DOTALL,
)
"""What precedes a string or a constant is skipped at once: to try each position takes ten times as long."""

MAX_PLACES = 2 * (MAX_MARKS + 1)
"""Limit of the strings, constants, and signs and exponents of numbers that are looked at: about 20 ms.

Each value in JSON has a mark before it, except for the first one, and at most a sign and an exponent.
"""

_CONSTANTS = {b"-Infinity": b"-9999.0"}
"""vLLM sends this number for the logarithm of a probability of 0. NaN and Infinity become null."""


def strict_json(data: bytes) -> bytes | None:
    """Return data with null or a number for NaN and infinities outside strings. None for data without them.

    Python's `json` writes them, but JSON has no form for them, and most clients refuse them. Data with more
    than MAX_PLACES counts as data without them: it is no JSON, or not of an upstream.
    """
    if b"NaN" not in data and b"Infinity" not in data:
        return None
    pieces: list[bytes] = []
    start = 0
    for place, match in enumerate(_STRING_OR_CONSTANT.finditer(data)):
        if place == MAX_PLACES:
            return None
        if constant := match["constant"]:
            pieces += data[start : match.start("constant")], _CONSTANTS.get(constant, b"null")
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
