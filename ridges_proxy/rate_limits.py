"""How often runs and addresses may call: moving windows of `limits`, in memory or in the ledger's Redis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from ridges_proxy.errors import AddressLimitedError, RateLimitedError, Standing

if TYPE_CHECKING:
    from limits import RateLimitItem

    from ridges_proxy.ledger.redis_windows import RedisWindows
    from ridges_proxy.rate_windows import MemoryWindows

RUN = "run"
ADDRESS = "address"


class RateLimits:
    """Counts each call once, where it is admitted; refuses at once, never queues."""

    def __init__(
        self,
        windows: MemoryWindows | RedisWindows,
        per_run: RateLimitItem | None,
        per_address: RateLimitItem | None,
    ) -> None:
        self._windows = windows
        self._limiter = MovingWindowRateLimiter(windows)
        self._per_run = per_run
        self._per_address = per_address

    def admit_run(self, run_id: str, calls_per_minute: int | None = None) -> Standing | None:
        """Count a call of a run, and tell where it stands with the limit that it reaches first.

        `calls_per_minute` is what its token allows. Raises RateLimitedError, and LedgerUnavailableError.
        """
        own = None if calls_per_minute is None else RateLimitItemPerMinute(calls_per_minute)
        limits = [item for item in (own, self._per_run) if item is not None]
        for item in limits:
            if not self._limiter.hit(item, RUN, run_id):
                raise RateLimitedError(self._standing(item, RUN, run_id))
        standings = [self._standing(item, RUN, run_id) for item in limits]
        return min(standings, key=lambda standing: standing.remaining, default=None)

    def admit_address(self, address: str) -> None:
        """Count a request of an address. Raises AddressLimitedError, and LedgerUnavailableError."""
        item = self._per_address
        if item is not None and not self._limiter.hit(item, ADDRESS, address):
            raise AddressLimitedError(self._standing(item, ADDRESS, address))

    def _standing(self, item: RateLimitItem, kind: str, who: str) -> Standing:
        stats = self._limiter.get_window_stats(item, kind, who)
        wait_seconds = math.ceil(stats.reset_time - self._windows.now())
        return Standing(item.amount, item.get_expiry(), max(0, stats.remaining), max(1, wait_seconds))
