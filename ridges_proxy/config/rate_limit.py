"""Rate limits in text form, such as 100/minute."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_CALLS = 1_000_000
MAX_WINDOW_SECONDS = 86_400
"""Upper bounds of a rate limit: each call in the window takes memory."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_FORM = re.compile(
    r"([0-9]{1,9})\s*(?:/|per)\s*([0-9]{1,9})?\s*(second|minute|hour|day)s?", re.ASCII | re.IGNORECASE
)


class RateLimit(NamedTuple):
    """The most calls in any window of so many seconds."""

    calls: int
    seconds: int


def rate_limit(raw: str) -> RateLimit | None:
    """Read a rate limit such as 100/minute, or 3 per 5 minutes. `off` is None."""
    if raw.casefold() == "off":
        return None
    found = _FORM.fullmatch(raw)
    if found is None:
        raise ValueError("must be a rate such as 100/minute or 10/second, or off")
    calls, units, unit = found.groups()
    limit = RateLimit(int(calls), int(units or 1) * _SECONDS[unit.lower()])
    if not (1 <= limit.calls <= MAX_CALLS and 1 <= limit.seconds <= MAX_WINDOW_SECONDS):
        raise ValueError(f"must be from 1 to {MAX_CALLS} calls in at most one day, or off")
    return limit
