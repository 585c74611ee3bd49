"""JSON of an upstream, which may have NaN and infinities, made strict. Pure."""

from __future__ import annotations

import json
from typing import Any

import orjson

_CONSTANTS = {"-Infinity": -9999.0}
"""vLLM sends this number for the logarithm of a probability of 0. NaN and Infinity become null."""


def strict_json(data: bytes) -> bytes | None:
    """Return JSON that has NaN or infinities as JSON without them. None for all other data.

    Python's `json` writes them, but JSON has no form for them, and most clients refuse them.
    """
    if b"NaN" not in data and b"Infinity" not in data:
        return None
    try:
        return orjson.dumps(json.loads(data, parse_constant=_CONSTANTS.get))
    except (ValueError, RecursionError, orjson.JSONEncodeError):
        return None


def parse_json(data: bytes) -> tuple[bytes, Any]:
    """Return the data as strict JSON, and its value. Raises orjson.JSONDecodeError if it is no JSON."""
    try:
        return data, orjson.loads(data)
    except orjson.JSONDecodeError:
        strict = strict_json(data)
        if strict is None:
            raise
        return strict, orjson.loads(strict)
