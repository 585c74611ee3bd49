"""The gauges of a worker for `/metrics`. Any worker may be scraped, and answers for all of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from ridges_proxy.calls.service import CallService
    from ridges_proxy.ledger import Sweeper


@dataclass(frozen=True, slots=True)
class Gauges:
    """Sets the gauges of its worker."""

    calls: CallService
    sweeper: Sweeper

    def publish(self) -> None:
        """Set the gauges that need no I/O. Called once a second, and before a scrape."""
        metrics = self.calls.metrics
        metrics.calls_in_flight.set(self.calls.admission.in_flight)
        metrics.calls_waiting.set(self.calls.hold_waits.waiting)
        metrics.held_usd.set(usd_from_nanousd(self.calls.held_nanousd))
        metrics.circuits_open.set(len(self.calls.circuits.down))
        metrics.settlements_kept.set(self.calls.outbox.kept())
        age_seconds = self.sweeper.age_seconds
        if age_seconds is not None:
            metrics.last_sweep.set(time.time() - age_seconds)

    def publish_runs(self) -> None:
        """Set the number of runs. Called before a scrape only: the ledger may be slow."""
        try:
            self.calls.metrics.runs.set(self.calls.ledger.count())
        except LedgerUnavailableError:
            self.calls.metrics.runs.set(math.nan)
