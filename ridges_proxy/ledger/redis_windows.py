"""Moving windows in the ledger's Redis: right for all servers of it."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from ridges_proxy.ledger.redis_scripts import HIT
from ridges_proxy.rate_windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.redis_link import RedisLink

PREFIX = "ridges:rate:"


class RedisWindows:
    """One question a hit: `limits` needs a second to tell what is left, and each takes 120 µs."""

    def __init__(self, link: RedisLink, clock: Callable[[], float] = time.time) -> None:
        """The clock is in seconds since 1970; all servers of a Redis count by their own."""
        self._link = link
        self._clock = clock

    def hit(self, key: str, limit: int, seconds: int) -> Window:
        """Count a hit, if the window of so many seconds then has at most `limit`.

        Raises LedgerUnavailableError. Where the connection breaks, a hit may count twice.
        """
        now = self._clock()
        counted, hits, oldest = self._link.run(HIT, _key(key), repr(now), limit, seconds)
        return Window(bool(counted), hits, float(oldest) + seconds - now)


def _key(key: str) -> str:
    """As long for every run's id, and no braces of it, which a Cluster would take for a tag."""
    return PREFIX + hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
