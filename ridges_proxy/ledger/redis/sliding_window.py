"""Moving windows in the ledger's Redis: right for all servers of it."""

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
    """One question a hit: `limits` needs a second to tell what is left, and each takes 120 µs."""

    def __init__(self, link: RedisClient, clock: Callable[[], float] | None = None) -> None:
        """The clock is the server's, unless a test gives one."""
        self._link = link
        self._clock = clock

    def hit(self, key: str, limit: int, seconds: int) -> Window:
        """Count a hit, if the window of so many seconds then has at most `limit`.

        Raises LedgerUnavailableError. Where the connection breaks, a hit may count twice.
        """
        counted, hits, leaves_in_seconds = self._link.run(HIT, _key(key), now_by(self._clock), limit, seconds)
        return Window(bool(counted), hits, float(leaves_in_seconds))


def _key(key: str) -> str:
    """As long for every run's id, and no braces of it, which a Cluster would take for a tag."""
    return PREFIX + hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
