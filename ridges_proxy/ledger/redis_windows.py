"""Where `limits` keeps the hits of its moving windows in the ledger's Redis: right for all servers of it."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from limits.storage import RedisStorage

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.redis_scripts import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.redis_link import RedisLink

PREFIX = "ridges:rate:"


class RedisWindows(RedisStorage):
    """The library's scripts, over the ledger's own way to the server: its limits, its TLS, its Cluster."""

    STORAGE_SCHEME = []  # noqa: RUF012 - the library's type; not to be found by a URL

    def __init__(self, link: RedisLink, clock: Callable[[], float] = time.time) -> None:
        # Not the library's constructor: it would make a client of its own.
        self.key_prefix = PREFIX
        self.wrap_exceptions = False
        self._link = link
        self._clock = clock
        self._acquire = Script(self.SCRIPT_ACQUIRE_MOVING_WINDOW.decode())
        self._look = Script(self.SCRIPT_MOVING_WINDOW.decode())

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the way to the server raises."""
        return LedgerUnavailableError

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count so many hits, if the window of `expiry` seconds then has at most `limit`.

        Raises LedgerUnavailableError. Where the connection breaks, a hit may count twice.
        """
        return bool(self._link.run(self._acquire, _key(key), self._clock(), limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the window began, in seconds since 1970, and the hits in it. Raises LedgerUnavailableError."""
        now = self._clock()
        window = self._link.run(self._look, _key(key), now - expiry, limit)
        return (float(window[0]), int(window[1])) if window else (now, 0)


def _key(key: str) -> str:
    """As long for every run's id, and no braces of it, which a Cluster would take for a tag."""
    return PREFIX + hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
