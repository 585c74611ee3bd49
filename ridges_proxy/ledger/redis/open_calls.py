"""The open holds of a Redis ledger as calls in flight."""

from __future__ import annotations

from collections import defaultdict
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.open_calls import OpenCallPage, by_age, open_call
from ridges_proxy.ledger.redis import scripts
from ridges_proxy.ledger.redis.rows import hold_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.open_calls import OpenCall
    from ridges_proxy.ledger.redis.client import RedisClient

_Found = list[tuple[tuple[bool, str], "OpenCall"]]
"""Calls, each with its sort key."""


class RedisOpenCalls:
    """The calls in flight of one run, or of all buckets."""

    def __init__(
        self, client: RedisClient, key_of: Callable[[int], str], now: Callable[[], str], buckets: int
    ) -> None:
        """`key_of` returns the prefix of the keys of a bucket, and `now` the first argument of a script."""
        self._client = client
        self._key_of = key_of
        self._now = now
        self._buckets = buckets

    def of_run(self, limit: int, run_id: str, key: str) -> OpenCallPage:
        """Return the oldest calls of a run. `key` is the prefix of the keys of its bucket."""
        found = self._calls(key, run_id)
        return OpenCallPage([call for _, call in sorted(found)[:limit]], len(found))

    def of_all(self, limit: int) -> OpenCallPage:
        """Return the oldest calls of all runs. Only their holds are read; of all others, only the ids are."""
        ids = [
            (by_age(hold_id.decode()), bucket)
            for bucket, found in enumerate(self._client.do(self._ids_by_bucket))
            for hold_id in found
        ]
        oldest: defaultdict[int, list[str]] = defaultdict(list)
        for (_, hold_id), bucket in nsmallest(limit, ids):
            oldest[bucket].append(hold_id)
        found: _Found = []
        for bucket, hold_ids in oldest.items():
            found += self._calls(self._key_of(bucket), "", *hold_ids)
        return OpenCallPage([call for _, call in sorted(found)], len(ids))

    def _ids_by_bucket(self, client: Any) -> Any:  # noqa: ANN401 - redis-py's
        pipeline = client.pipeline(transaction=False)
        for bucket in range(self._buckets):
            pipeline.hkeys(f"{self._key_of(bucket)}:holds")
        return pipeline.execute()

    def _calls(self, key: str, run_id: str, *hold_ids: str) -> _Found:
        """Return those of these holds of a bucket that are open, or the open holds of a run."""
        now, rows = self._client.run(scripts.OPEN_CALLS, key, self._now(), run_id, *hold_ids)
        holds = map(hold_of, rows)
        return [(by_age(hold.id), open_call(hold, float(now))) for hold in holds]
