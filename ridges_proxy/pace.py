"""How often runs call, where their tokens bound it: a moving window of a minute, in one process."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from ridges_proxy.errors import RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 60.0


class Pace:
    """Remembers when a run's calls of the last minute were admitted, and forgets them when it is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: OrderedDict[str, deque[float]] = OrderedDict()  # the run that called last is the last

    def admit(self, run_id: str, calls_per_minute: int) -> None:
        """Count one call. Raises RateLimitedError, and counts nothing, above so many in a minute."""
        now = self._clock()
        self._forget(now)
        calls = self._calls.setdefault(run_id, deque())
        while calls and calls[0] <= now - WINDOW_SECONDS:
            calls.popleft()
        if len(calls) >= calls_per_minute:
            raise RateLimitedError(math.ceil(calls[-calls_per_minute] + WINDOW_SECONDS - now))
        calls.append(now)
        self._calls.move_to_end(run_id)

    def _forget(self, now: float) -> None:
        """Drop the runs whose last call is out of the window: at the front, as each call moves to the end."""
        while self._calls and next(iter(self._calls.values()))[-1] <= now - WINDOW_SECONDS:
            self._calls.popitem(last=False)
