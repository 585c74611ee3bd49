"""Whoever tries keys waits for each answer. Who has the right one, behind the same address too, does not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.errors import AddressLimitedError, RateLimitStatus
from ridges_proxy.runtime.sliding_window import SlidingWindows

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = 10
"""Bad keys of one address that are answered at once, in WINDOW_SECONDS."""

WINDOW_SECONDS = 60

WAIT_SECONDS = 1.0
"""How long each one after them waits for its answer."""

MOST_WAITING_PER_ADDRESS = 20
MOST_WAITING = 500
"""Of all addresses: a wait takes a connection and some 20 kB. Above either, the answer is 429."""


class KeyThrottle:
    """Slows down, in one process, addresses that send bad keys."""

    def __init__(
        self, windows: SlidingWindows | None = None, sleep: Callable[[float], object] = gevent.sleep
    ) -> None:
        self._windows = SlidingWindows() if windows is None else windows
        self._sleep = sleep
        self._waiting: Counter[str] = Counter()

    def delay(self, address: str) -> None:
        """Count a bad key; return when it may be answered. Raises AddressLimitedError where too many wait."""
        if self._windows.hit(address, FREE, WINDOW_SECONDS).counted:
            return
        if self._waiting[address] >= MOST_WAITING_PER_ADDRESS or self._waiting.total() >= MOST_WAITING:
            raise AddressLimitedError(RateLimitStatus(FREE, WINDOW_SECONDS, 0, WINDOW_SECONDS))
        self._waiting[address] += 1
        try:
            self._sleep(WAIT_SECONDS)
        finally:
            self._waiting -= Counter({address: 1})  # leaves no zeros
