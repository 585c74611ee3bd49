"""The audit trail of a Redis ledger.

It is one sorted set, by the time of the entries. A member is the id of an entry, a line end, and its other
fields as a JSON list: entries of the same time are in the order of their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery, page_of, position_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ridges_proxy.ledger.redis.client import RedisClient

KEY = "ridges:audit"

BATCH = 500
"""Entries that are read at a time: about 200 kB. Redis serves calls between two batches."""


class RedisAuditTrail:
    """The audit trail of all servers."""

    def __init__(self, client: RedisClient) -> None:
        """Does not connect yet."""
        self._client = client

    def count(self) -> int:
        """Return the number of entries."""
        return int(self._client.do(lambda client: client.zcard(KEY)))

    def put(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries. Those that are there already are not changed."""
        members = {_member_of(entry): entry.at for entry in entries}
        self._client.do(lambda client: client.zadd(KEY, members))

    def take(self, entries: Sequence[AuditEntry]) -> None:
        """Remove entries. Those that are not there are skipped."""
        self._client.do(lambda client: client.zrem(KEY, *map(_member_of, entries)))

    def page(self, query: AuditQuery) -> AuditPage:
        """Return one page. Raises ValueError for a cursor that is not one."""
        found: list[AuditEntry] = []
        for entry in self._entries_of(query):
            if query.matches(entry):
                found.append(entry)
            if len(found) > query.limit:
                break
        return page_of(found, query.limit)

    def drop_old(self, kept_since: float) -> None:
        """Remove the entries of this time or before."""
        self._client.do(lambda client: client.zremrangebyscore(KEY, "-inf", kept_since))

    def _entries_of(self, query: AuditQuery) -> Iterator[AuditEntry]:
        """Yield the entries behind the cursor, the newest first."""
        start = query.start
        latest, skipped = start[0], 0
        while True:
            rows = self._read(latest, query.since, skipped)
            for member, at in rows:
                entry = _entry_of(member, at)
                if position_of(entry) < start:
                    yield entry
            if len(rows) < BATCH:
                return
            last = rows[-1][1]
            skipped = sum(at == last for _, at in rows) + (skipped if last == latest else 0)
            latest = last

    def _read(self, latest: float, since: float, skipped: int) -> list[tuple[bytes, float]]:
        """Read one batch from a time backwards, without the first entries of that time."""
        page = {"start": skipped, "num": BATCH, "withscores": True}
        found: list[tuple[bytes, float]] = self._client.do(
            lambda client: client.zrevrangebyscore(KEY, latest, since, **page)
        )
        return found


def _member_of(entry: AuditEntry) -> bytes:
    who = entry.actor, entry.address
    about = entry.action, entry.subject, entry.request_id
    fields = orjson.dumps([*who, *about, dict(entry.detail), entry.valid_until], option=orjson.OPT_SORT_KEYS)
    return entry.id.encode() + b"\n" + fields


def _entry_of(member: bytes, at: float) -> AuditEntry:
    entry_id, _, text = member.partition(b"\n")
    fields: list[Any] = orjson.loads(text)
    return AuditEntry(entry_id.decode(), at, *fields)
