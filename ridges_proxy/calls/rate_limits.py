"""How often runs and addresses may call: moving windows, in memory or in the ledger's Redis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute

from ridges_proxy.errors import AddressLimitedError, RateLimitedError, RateLimitStatus

if TYPE_CHECKING:
    from limits import RateLimitItem

    from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows
    from ridges_proxy.runtime.sliding_window import SlidingWindows

RUN = "run"
ADDRESS = "address"


class RateLimits:
    """Counts each call once, where it is admitted; refuses at once, never queues."""

    def __init__(
        self,
        windows: SlidingWindows | RedisSlidingWindows,
        per_run: RateLimitItem | None,
        per_address: RateLimitItem | None,
    ) -> None:
        self._windows = windows
        self._per_run = per_run
        self._per_address = per_address

    def admit_run(self, run_id: str, calls_per_minute: int | None = None) -> RateLimitStatus | None:
        """Count a call of a run, and tell where it stands with the limit that it reaches first.

        `calls_per_minute` is what its token allows. Raises RateLimitedError, and LedgerUnavailableError.
        """
        own = None if calls_per_minute is None else RateLimitItemPerMinute(calls_per_minute)
        limits = [item for item in (own, self._per_run) if item is not None]
        standings = [self._count(item, RUN, run_id, RateLimitedError) for item in limits]
        return min(standings, key=lambda standing: standing.remaining, default=None)

    def admit_address(self, address: str) -> None:
        """Count a request of an address. Raises AddressLimitedError, and LedgerUnavailableError."""
        if self._per_address is not None:
            self._count(self._per_address, ADDRESS, address, AddressLimitedError)

    def _count(
        self, item: RateLimitItem, kind: str, who: str, refusal: type[RateLimitedError]
    ) -> RateLimitStatus:
        seconds = item.get_expiry()
        window = self._windows.hit(f"{kind}/{item.amount}/{seconds}/{who}", item.amount, seconds)
        wait_seconds = max(1, math.ceil(window.first_leaves_in_seconds))
        standing = RateLimitStatus(item.amount, seconds, item.amount - window.hits, wait_seconds)
        if not window.counted:
            raise refusal(standing)
        return standing
