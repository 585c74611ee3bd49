"""Delay responses to repeated invalid API keys. Requests with a valid key are never delayed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.errors import AddressLimitedError, RateLimitStatus
from ridges_proxy.runtime.sliding_window import SlidingWindows

if TYPE_CHECKING:
    from collections.abc import Callable

FREE_ATTEMPTS = 10
"""Invalid keys of one address that are answered without delay, in WINDOW_SECONDS."""

WINDOW_SECONDS = 60

WAIT_SECONDS = 1.0
"""Delay of the response to each further invalid key."""

MAX_WAITING_PER_ADDRESS = 20
MAX_WAITING = 500
"""Maximum delayed responses of one address, and of all: each takes a connection and about 20 kB of memory.
Above either, the answer is 429."""


class KeyThrottle:
    """Slow down addresses that send invalid keys. Each process counts for itself."""

    def __init__(
        self, windows: SlidingWindows | None = None, sleep: Callable[[float], object] = gevent.sleep
    ) -> None:
        self._windows = SlidingWindows() if windows is None else windows
        self._sleep = sleep
        self._waiting: Counter[str] = Counter()

    def delay(self, address: str) -> None:
        """Count an invalid key, and sleep if it must wait. Raises AddressLimitedError if too many wait."""
        if self._windows.hit(address, FREE_ATTEMPTS, WINDOW_SECONDS).counted:
            return
        if self._waiting[address] >= MAX_WAITING_PER_ADDRESS or self._waiting.total() >= MAX_WAITING:
            raise AddressLimitedError(RateLimitStatus(FREE_ATTEMPTS, WINDOW_SECONDS, 0, WINDOW_SECONDS))
        self._waiting[address] += 1
        try:
            self._sleep(WAIT_SECONDS)
        finally:
            self._waiting -= Counter({address: 1})  # subtracting a Counter removes keys with 0
