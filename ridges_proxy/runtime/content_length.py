"""Parsing of the Content-Length header. Pure."""

from __future__ import annotations

import sys

MAX_DIGITS = 18
"""More digits than any real length has, and far fewer than the 4,300 that `int` refuses."""

TOO_LONG = sys.maxsize
"""Returned for a length with more digits: it exceeds every limit."""


def bytes_of(length: str) -> int | None:
    """Return the length in bytes, at most TOO_LONG. None for anything but ASCII digits."""
    if not (length.isascii() and length.isdigit()):
        return None
    return int(length) if len(length) <= MAX_DIGITS else TOO_LONG
