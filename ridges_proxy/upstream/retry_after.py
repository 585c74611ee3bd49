"""The `Retry-After` header of an upstream's response (RFC 9110, section 10.2.3). Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 60
"""The official OpenAI clients ignore a longer time, and then retry after a second or two."""

_SECONDS = re.compile(r"\d+(\.\d*)?", re.ASCII)
"""The RFC allows whole seconds only. Some servers send fractions."""

_MAX_CHARACTERS = 64


def retry_after_seconds(value: str | None, date: str | None, now: datetime) -> int | None:
    """Return the time to wait, from 1 s to MAX_RETRY_AFTER_SECONDS; None if the header has none.

    A point in time counts from the response's `Date`, because the clocks may differ, or else from now.
    """
    if value is None or len(value := value.strip(" \t")) > _MAX_CHARACTERS:
        return None
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    elif (then := _time_of(value)) is not None:
        seconds = (then - (_time_of(date or "") or now)).total_seconds()
    else:
        return None
    return math.ceil(min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS))


def _time_of(text: str) -> datetime | None:
    """Return the time of an HTTP date, in any of its three forms, which are all UTC."""
    try:
        time = parsedate_to_datetime(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
