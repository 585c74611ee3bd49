"""JSON that is kept for a while."""

from __future__ import annotations

import orjson


def compact_json(value: object) -> bytes:
    """A value as JSON, in no more memory than it needs. Raises orjson.JSONEncodeError.

    What orjson returns keeps the room that it was written into: 4 kB at least, and 64 for 6.
    """
    return bytes(memoryview(orjson.dumps(value)))
