"""Content-Length, as clients and upstreams write it. Pure."""

from __future__ import annotations

import sys

MAX_DIGITS = 18
"""More than any body has, and far fewer than `int` refuses to read."""

BEYOND_ALL = sys.maxsize
"""For a length of more digits."""


def bytes_of(length: str) -> int | None:
    """What it says, or BEYOND_ALL; None if it is no number."""
    if not (length.isascii() and length.isdigit()):
        return None
    return int(length) if len(length) <= MAX_DIGITS else BEYOND_ALL
