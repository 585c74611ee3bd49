"""The bytes of refused requests in the last minute, for each run or address, and their limit."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.errors import RefusedBytesError

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 60

LARGEST_BODIES = 32
"""The limit, in bodies of MAX_BODY_BYTES. A client that repeats a refused body of 1 MiB each second stays
below it."""


@dataclass(slots=True)
class _Window:
    ends_at: float
    size_bytes: int = 0


class RefusedBytes:
    """Counts the bytes of requests that were refused. Each process counts for itself.

    A window begins with a key's first refused request. All have the same length, so they end in the order of
    their beginnings.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self.is_used = False
        """Whether any key has a window. Most requests need no check."""

    def add(self, key: str, size_bytes: int) -> None:
        """Count a refused request."""
        now = self._clock()
        self._remove_ended(now)
        self.is_used = True
        window = self._windows.setdefault(key, _Window(now + WINDOW_SECONDS))
        window.size_bytes += size_bytes

    def check(self, key: str) -> None:
        """Raise RefusedBytesError if the key has reached the limit."""
        now = self._clock()
        self._remove_ended(now)
        window = self._windows.get(key)
        if window is not None and window.size_bytes >= self._max_bytes:
            raise RefusedBytesError(max(1, math.ceil(window.ends_at - now)))

    def _remove_ended(self, now: float) -> None:
        while self._windows and next(iter(self._windows.values())).ends_at <= now:
            self._windows.popitem(last=False)
        self.is_used = bool(self._windows)
