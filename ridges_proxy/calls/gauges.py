"""The gauges of a worker for `/metrics`. Any worker may be scraped, and answers for all of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.calls.circuit_breaker import CircuitBreakers
    from ridges_proxy.calls.service import CallService
    from ridges_proxy.ledger import Ledger, Outbox, Sweeper
    from ridges_proxy.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Sets the gauges of its worker from the state of the other services."""

    metrics: Metrics
    admission: Admission
    circuits: CircuitBreakers
    calls: CallService
    ledger: Ledger
    outbox: Outbox
    sweeper: Sweeper

    def publish(self) -> None:
        """Set the gauges that need no I/O. Called once a second, and before a scrape."""
        self.metrics.calls_in_flight.set(self.admission.in_flight)
        self.metrics.held_usd.set(usd_from_nanousd(self.calls.held_nanousd))
        self.metrics.circuits_open.set(len(self.circuits.down))
        self.metrics.settlements_kept.set(self.outbox.kept())
        age_seconds = self.sweeper.age_seconds
        if age_seconds is not None:
            self.metrics.last_sweep.set(time.time() - age_seconds)

    def publish_runs(self) -> None:
        """Set the number of runs. Called before a scrape only: the ledger may be slow."""
        try:
            self.metrics.runs.set(self.ledger.count())
        except LedgerUnavailableError:
            self.metrics.runs.set(math.nan)
