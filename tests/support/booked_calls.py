"""Calls in the books, and a store that has them, for tests of the comparison with a bill."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import BookedCall, BookedCallPage, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

CALL = BookedCall(0.0, "run", "hold", "m", Kind.INFERENCE, 10, 5, 1_000)


def seconds(time: str) -> float:
    """Return a time of day as seconds since the epoch, on the day of the tests."""
    return datetime.fromisoformat(f"2026-11-30T{time}+00:00").timestamp()


def booked(at: str, **fields: object) -> BookedCall:
    """A call that was settled at a time of day: 10 + 5 tokens of the model `m`, for 1,000 nano-USD."""
    return replace(CALL, settled_at=seconds(at), **fields)  # type: ignore[arg-type] # the test's fields


class Books:
    """A store that has these calls. Its pages have up to `page` of them."""

    def __init__(self, calls: Sequence[BookedCall], page: int = 2) -> None:
        self._calls = calls
        self._page = page

    def count_calls(self, since: float) -> int:
        """Count the calls since a time."""
        return sum(call.settled_at >= since for call in self._calls)

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page of the calls since a time."""
        start = int(cursor or 0)
        end = start + min(limit, self._page)
        found = [call for call in self._calls if call.settled_at >= since]
        return BookedCallPage(found[start:end], str(end) if end < len(found) else None)
