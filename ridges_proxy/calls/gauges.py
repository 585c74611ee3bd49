"""What a worker is like right now, for `/metrics`: any worker may be asked, and tells of all."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.calls.circuit_breaker import CircuitBreakers
    from ridges_proxy.calls.service import CallService
    from ridges_proxy.ledger import Ledger, Outbox, Sweeper
    from ridges_proxy.telemetry.metrics import Metrics


class Gauges:
    """Sets the gauges of its worker."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it looks at
        self,
        metrics: Metrics,
        admission: Admission,
        circuits: CircuitBreakers,
        calls: CallService,
        ledger: Ledger,
        outbox: Outbox,
        sweeper: Sweeper,
    ) -> None:
        self._metrics = metrics
        self._admission = admission
        self._circuits = circuits
        self._calls = calls
        self._ledger = ledger
        self._outbox = outbox
        self._sweeper = sweeper

    def publish(self) -> None:
        """Once a second, and before a scrape: asks nobody."""
        self._metrics.calls_in_flight.set(self._admission.in_flight)
        self._metrics.held_usd.set(usd_from_nanousd(self._calls.held_nanousd))
        self._metrics.circuits_open.set(len(self._circuits.down))
        self._metrics.settlements_kept.set(self._outbox.kept())
        age_seconds = self._sweeper.age_seconds
        if age_seconds is not None:
            self._metrics.last_sweep.set(time.time() - age_seconds)

    def publish_runs(self) -> None:
        """Before a scrape: asks the ledger, which may take a while."""
        try:
            self._metrics.runs.set(self._ledger.count())
        except LedgerUnavailableError:
            self._metrics.runs.set(math.nan)
