"""The background greenlet that sweeps the ledger."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.models import Hold, RunUsage
    from ridges_proxy.telemetry.metrics import Metrics

SLICE_RUNS = 50
"""Runs swept between two turns of the hub: about a millisecond, nearly all of it the receipts' log lines
(20 µs each)."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SweepTotals:
    """What one whole sweep did."""

    forgotten_runs: int = 0
    overdue_holds: int = 0
    seconds: float = 0.0


class Sweeper:
    """Sweeps every `interval_seconds`, slice by slice, and survives whatever a sweep raises."""

    def __init__(
        self,
        ledger: Ledger,
        interval_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._stopping = Event()
        self._swept_at: float | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Start the greenlet. Once, after the fork."""
        self._swept_at = self._clock()
        self._greenlet = gevent.spawn(self._loop)

    def stop(self) -> None:
        """Ask the greenlet to end; a sweep under way is finished."""
        self._stopping.set()

    def sweep(self) -> SweepTotals:
        """Sweep all there is to sweep, now, letting other greenlets run between slices."""
        totals = SweepTotals()
        started = self._clock()
        more = True
        while more:
            swept = self._ledger.sweep(SLICE_RUNS)
            _log_slice(swept.receipts, swept.overdue)
            overdue_nanousd = sum(hold.amount_nanousd for hold in swept.overdue)
            self._metrics.overdue_usd.inc(usd_from_nanousd(overdue_nanousd))
            totals.forgotten_runs += len(swept.receipts)
            totals.overdue_holds += len(swept.overdue)
            more = swept.more
            pause()
        totals.seconds = self._clock() - started
        return totals

    @property
    def age_seconds(self) -> float | None:
        """How long ago the last whole sweep ended, or the process began; None if it has not."""
        return None if self._swept_at is None else self._clock() - self._swept_at

    def state(self) -> dict[str, object]:
        """For `/ready`: `running` is false if the greenlet has died or has not swept for two intervals."""
        age_seconds = self.age_seconds
        alive = self._greenlet is not None and not self._greenlet.dead
        late = age_seconds is None or age_seconds > 2 * self._interval_seconds + 60
        return {
            "running": alive and not late,
            "last_sweep_seconds_ago": None if age_seconds is None else round(age_seconds, 1),
            "last_error": self._failure,
        }

    def _loop(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._sweep_once()

    def _sweep_once(self) -> None:
        try:
            totals = self.sweep()
        except Exception as error:
            # Whatever a store raises must not end the greenlet: nothing else would sweep.
            self._failure = type(error).__name__
            logger.exception("sweep failed", extra={"error": self._failure})
        else:
            self._failure = None
            self._swept_at = self._clock()
            logger.info(
                "swept",
                extra={
                    "forgotten_runs": totals.forgotten_runs,
                    "overdue_holds": totals.overdue_holds,
                    "milliseconds": round(totals.seconds * 1000, 1),
                },
            )


def _log_slice(receipts: list[RunUsage], overdue: list[Hold]) -> None:
    for hold in overdue:
        logger.warning(
            "overdue hold became spend",
            extra={"run": hold.run_id, "hold": hold.id, "cost_usd": usd_from_nanousd(hold.amount_nanousd)},
        )
    for receipt in receipts:
        log_receipt(receipt)


def log_receipt(receipt: RunUsage) -> None:
    """Write the last line of a run."""
    logger.info(
        "receipt",
        extra={
            "run": receipt.run_id,
            "used_cost_usd": usd_from_nanousd(receipt.spent_nanousd),
            "inference_cost_usd": usd_from_nanousd(receipt.inference_nanousd),
            "embedding_cost_usd": usd_from_nanousd(receipt.embedding_nanousd),
            "max_cost_usd": usd_from_nanousd(receipt.budget_nanousd),
            "calls": receipt.calls,
        },
    )
