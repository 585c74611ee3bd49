"""Sliding windows in Redis, shared by all servers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ridges_proxy.ledger.redis.scripts import HIT, now_by
from ridges_proxy.runtime.sliding_window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.redis.client import RedisClient

PREFIX = "ridges:rate:"


class RedisSlidingWindows:
    """Sliding windows that need one script for a hit, of 120 µs. The library `limits` needs two commands."""

    def __init__(self, client: RedisClient, clock: Callable[[], float] | None = None) -> None:
        """Does not connect yet. The clock is that of Redis, except in tests."""
        self._client = client
        self._clock = clock

    def hit(self, key: str, limit: int, seconds: int) -> Window:
        """Count a hit, unless the window of the last `seconds` has `limit` hits already.

        If the connection breaks, a hit may count twice. Raises LedgerUnavailableError.
        """
        now = now_by(self._clock)
        counted, hits, leaves_in_seconds, hit_at = self._client.run(HIT, _key(key), now, limit, seconds)
        return Window(bool(counted), hits, float(leaves_in_seconds), float(hit_at))

    def take_back(self, key: str, hit_at: float) -> None:
        """Remove one hit of that time, if it is still in the window. Raises LedgerUnavailableError."""
        member = f"{hit_at:.17g}"  # as `text` in clock.lua writes it
        self._client.do(lambda client: client.lrem(_key(key), 1, member))


def _key(key: str) -> str:
    """Hash the key: the result has a fixed length, and no braces, which would be a hash tag in a Cluster."""
    return PREFIX + hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
