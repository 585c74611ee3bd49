"""The single calls that a ledger keeps with RECEIPT_CALLS=1, and those of a ledger in memory."""

from __future__ import annotations

import bisect
from collections import deque
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import BookedCall, BookedCallPage, CallRecord

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import Hold

MAX_CALLS = 100_000
"""Limit of the calls that a ledger in memory keeps. Above it, the oldest is dropped. All take 60 MB."""

UNKNOWN = CallRecord()
"""The record of an expired hold: nothing is known of its call."""


def booked_call(hold: Hold, cost_nanousd: int, settled_at: float, call: CallRecord | None) -> BookedCall:
    """Return the call of a hold that was charged. None: its hold has expired."""
    call = call or UNKNOWN
    return BookedCall(
        settled_at,
        hold.run_id,
        hold.id,
        hold.model,
        hold.kind,
        call.prompt_tokens,
        call.completion_tokens,
        cost_nanousd,
        call.answer_id,
        call.invocation_id,
    )


class MemoryCalls:
    """The latest calls of a ledger in memory, oldest first. Use it only under the ledger's lock."""

    def __init__(self, kept_seconds: float, limit: int = MAX_CALLS) -> None:
        self._kept_seconds = kept_seconds
        self._calls: deque[BookedCall] = deque(maxlen=limit)
        self._number = 0
        """Calls that were ever added."""

    def add(self, call: BookedCall) -> None:
        """Add a call, which is the latest."""
        self._calls.append(call)
        self._number += 1

    def page(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page. The cursor is the number of its first call among all that were ever added."""
        dropped = self._number - len(self._calls)
        start = bisect.bisect_left(self._calls, since, key=attrgetter("settled_at"))
        start = max(start, int(cursor or 0) - dropped)
        found = list(islice(self._calls, start, start + limit))
        is_last = start + limit >= len(self._calls)
        return BookedCallPage(found, None if is_last else str(dropped + start + limit))

    def drop_old(self, now: float, limit: int) -> bool:
        """Drop up to `limit` calls whose time is over. Return whether the limit was reached."""
        for _ in range(limit):
            if not self._calls or now - self._calls[0].settled_at < self._kept_seconds:
                return False
            self._calls.popleft()
        return True
