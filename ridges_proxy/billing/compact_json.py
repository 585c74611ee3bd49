"""Serialize JSON without orjson's over-allocated buffer."""

from __future__ import annotations

import orjson


def compact_json(value: object) -> bytes:
    """Serialize a value into an exactly sized buffer. Raises orjson.JSONEncodeError.

    For JSON that is kept during a call: orjson's result keeps its whole write buffer, at least 4 kB, and
    64 kB for 6 kB of JSON.
    """
    return bytes(memoryview(orjson.dumps(value)))
