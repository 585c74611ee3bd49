"""Rate limits of runs and addresses, by sliding windows in memory or in the ledger's Redis."""

from __future__ import annotations

import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ridges_proxy.config.rate_limit import RateLimit
from ridges_proxy.errors import (
    AddressLimitedError,
    LedgerUnavailableError,
    RateLimitedError,
    RateLimitStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows
    from ridges_proxy.runtime.sliding_window import SlidingWindows

RUN = "run"
ADDRESS = "address"

Hit = tuple[str, float]
"""The key of a window, and the time of a hit in it."""


class RateLimits:
    """Counts each call that is made once. Refuses calls above a limit at once; never queues them."""

    def __init__(
        self,
        windows: SlidingWindows | RedisSlidingWindows,
        per_run: RateLimit | None,
        per_address: RateLimit | None,
    ) -> None:
        self._windows = windows
        self._per_run = per_run
        self._per_address = per_address

    def admit_run(
        self, run_id: str, calls_per_minute: int | None = None, hits: list[Hit] | None = None
    ) -> RateLimitStatus | None:
        """Count a call of a run. Returns the status of the limit with the fewest remaining calls.

        `calls_per_minute` is the limit in the run's token. What was counted is added to `hits`.
        Raises RateLimitedError, LedgerUnavailableError.
        """
        own_limit = None if calls_per_minute is None else RateLimit(calls_per_minute, 60)
        status = None
        for limit in (own_limit, self._per_run):
            # Equal limits share one window, in which a call counts once.
            if limit is not None and not (status and limit == own_limit):
                counted = self._count(limit, RUN, run_id, RateLimitedError, hits)
                status = min(status or counted, counted, key=lambda each: each.remaining)
        return status

    @contextmanager
    def admitted_run(
        self, run_id: str, calls_per_minute: int | None = None, hits: list[Hit] | None = None
    ) -> Iterator[RateLimitStatus | None]:
        """Count a call of a run, as `admit_run` does. An error inside the context takes the count back."""
        hits = [] if hits is None else hits
        try:
            yield self.admit_run(run_id, calls_per_minute, hits)
        except BaseException:
            self.take_back(hits)
            raise

    def take_back(self, hits: list[Hit]) -> None:
        """Take back what was counted for a call that is not made."""
        for key, hit_at in hits:
            with suppress(LedgerUnavailableError):  # it leaves the window by itself
                self._windows.take_back(key, hit_at)
        hits.clear()

    def admit_address(self, address: str) -> None:
        """Count a request of an address. Raises AddressLimitedError, LedgerUnavailableError."""
        if self._per_address is not None:
            self._count(self._per_address, ADDRESS, address, AddressLimitedError)

    def _count(
        self,
        limit: RateLimit,
        kind: str,
        name: str,
        refusal: type[RateLimitedError],
        hits: list[Hit] | None = None,
    ) -> RateLimitStatus:
        key = f"{kind}/{limit.calls}/{limit.seconds}/{name}"
        window = self._windows.hit(key, limit.calls, limit.seconds)
        reset_seconds = max(1, math.ceil(window.first_leaves_in_seconds))
        status = RateLimitStatus(limit.calls, limit.seconds, limit.calls - window.hits, reset_seconds)
        if not window.counted:
            raise refusal(status)
        if hits is not None:
            hits.append((key, window.hit_at))
        return status
