"""Whether the ledger accepts writes, asked at most once a second for all callers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.interface import Ledger

INTERVAL_SECONDS = 1.0
"""Time for which an answer is used again. Load balancers ask every few seconds, each on its own."""


class WriteCheck:
    """Answers all callers of a second with one `ping` of the ledger, so that they cannot load the store."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._accepts = False
        self._ask_at = clock()

    def accepts_writes(self) -> bool:
        """Return whether the ledger answers and accepts writes. Takes no longer than one `ping`."""
        with self._lock:
            if self._clock() >= self._ask_at:
                self._accepts = self._ask()
                self._ask_at = self._clock() + INTERVAL_SECONDS
            return self._accepts

    def _ask(self) -> bool:
        try:
            self._ledger.ping()
        except LedgerUnavailableError:
            return False
        return True
