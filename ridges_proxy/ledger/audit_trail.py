"""The audit trail of a ledger in memory, and how long entries are kept."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.ledger.audit_entries import newest_first, page_of, position_of
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery

MAX_ENTRIES = 10_000
"""Limit of the entries that a ledger in memory keeps. Above it, the oldest is dropped. All take 10 MB."""

SLICE = 2_000
"""Entries that a page reads between two pauses: about 1 ms."""


def kept_seconds_of(receipt_days: int) -> float:
    """Return how long entries are kept: as long as receipts, and at least for the life of a run token."""
    return float(max(receipt_days * DAY_SECONDS, MAX_LIFETIME_SECONDS))


class MemoryAuditTrail:
    """The latest entries of a ledger in memory, in the order in which they were added.

    Each step that changes it is one step of the process, so it needs no lock.
    """

    def __init__(self, receipt_days: int, limit: int = MAX_ENTRIES) -> None:
        self._kept_seconds = kept_seconds_of(receipt_days)
        self._limit = limit
        self._entries: dict[str, AuditEntry] = {}

    def add(self, entry: AuditEntry) -> None:
        """Add an entry, which is the latest, unless it is there already."""
        self._entries.setdefault(entry.id, entry)
        if len(self._entries) > self._limit:
            self._drop_oldest()

    def page(self, query: AuditQuery) -> AuditPage:
        """Return one page."""
        start = query.start
        entries = iter(list(self._entries.values()))
        found: list[AuditEntry] = []
        while batch := list(itertools.islice(entries, SLICE)):
            found += (entry for entry in batch if query.matches(entry) and position_of(entry) < start)
            pause()
        return page_of(newest_first(found), query.limit)

    def drop_old(self, now: float, limit: int) -> bool:
        """Drop up to `limit` entries whose time is over. Return whether the limit was reached."""
        for _ in range(limit):
            oldest = next(iter(self._entries.values()), None)
            if oldest is None or now - oldest.at < self._kept_seconds:
                return False
            self._drop_oldest()
        return True

    def _drop_oldest(self) -> None:
        del self._entries[next(iter(self._entries))]
