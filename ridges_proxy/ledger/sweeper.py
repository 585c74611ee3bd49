"""The background greenlet that charges expired holds and forgets idle runs."""

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
    from collections.abc import Callable, Sequence

    from ridges_proxy.ledger.interface import Ledger
    from ridges_proxy.ledger.models import Hold, RunUsage
    from ridges_proxy.telemetry.metrics import Metrics

SLICE_RUNS = 50
"""Runs in one slice. Other greenlets run between two slices. A slice takes about 1 ms, nearly all of it for
the log lines of the receipts (20 µs each)."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SweepTotals:
    """Result of a complete sweep."""

    forgotten_runs: int = 0
    overdue_holds: int = 0
    seconds: float = 0.0


class Sweeper:
    """Sweeps every `interval_seconds`, in slices. An error ends only the sweep that raised it."""

    def __init__(
        self,
        ledger: Ledger,
        interval_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        on_forgotten: Callable[[Sequence[RunUsage]], object] | None = None,
    ) -> None:
        """`on_forgotten` gets the final usage of the runs that each slice has forgotten."""
        self._on_forgotten = on_forgotten
        self._ledger = ledger
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._stopping = Event()
        self._swept_at: float | None = None
        self._last_error: str | None = None

    def start(self) -> None:
        """Start the greenlet. Call it once, after the fork."""
        self._swept_at = self._clock()
        self._greenlet = gevent.spawn(self._loop)

    def stop(self) -> None:
        """Let the greenlet end. It completes a sweep that is running."""
        self._stopping.set()

    def sweep(self) -> SweepTotals:
        """Sweep until nothing is left. Other greenlets run between the slices."""
        totals = SweepTotals()
        started = self._clock()
        more = True
        while more:
            swept = self._ledger.sweep(SLICE_RUNS)
            _log_slice(swept.receipts, swept.expired)
            if self._on_forgotten is not None:
                self._on_forgotten(swept.receipts)
            for run_id in swept.lost:
                logger.error(
                    "the store has lost a run: what it had spent is not known", extra={"run": run_id}
                )
            expired_nanousd = sum(hold.amount_nanousd for hold in swept.expired)
            self._metrics.overdue_usd.inc(usd_from_nanousd(expired_nanousd))
            totals.forgotten_runs += len(swept.receipts)
            totals.overdue_holds += len(swept.expired)
            more = swept.more
            pause()
        totals.seconds = self._clock() - started
        return totals

    @property
    def age_seconds(self) -> float | None:
        """Time since the last complete sweep, or since `start`; None before that."""
        return None if self._swept_at is None else self._clock() - self._swept_at

    @property
    def late_after_seconds(self) -> float:
        """The age of the last sweep above which the next one is late."""
        return 2 * self._interval_seconds + 60

    def state(self) -> dict[str, object]:
        """Return the state for `/ready`.

        `running` is false if the greenlet has ended, or if the next sweep is late.
        """
        age_seconds = self.age_seconds
        alive = self._greenlet is not None and not self._greenlet.dead
        late = age_seconds is None or age_seconds > self.late_after_seconds
        return {
            "running": alive and not late,
            "last_sweep_seconds_ago": None if age_seconds is None else round(age_seconds, 1),
            "last_error": self._last_error,
        }

    def _loop(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._sweep_once()

    def _sweep_once(self) -> None:
        try:
            totals = self.sweep()
        except Exception as error:
            # No error may end the greenlet, because nothing else in this process sweeps.
            self._last_error = type(error).__name__
            logger.exception("sweep failed", extra={"error": self._last_error})
        else:
            self._last_error = None
            self._swept_at = self._clock()
            logger.info(
                "sweep finished",
                extra={
                    "forgotten_runs": totals.forgotten_runs,
                    "overdue_holds": totals.overdue_holds,
                    "milliseconds": round(totals.seconds * 1000, 1),
                },
            )


def _log_slice(receipts: list[RunUsage], expired: list[Hold]) -> None:
    for hold in expired:
        logger.warning(
            "expired hold was charged",
            extra={"run": hold.run_id, "hold": hold.id, "cost_usd": usd_from_nanousd(hold.amount_nanousd)},
        )
    for receipt in receipts:
        log_receipt(receipt)


def log_receipt(receipt: RunUsage) -> None:
    """Log the receipt of a run: its final usage."""
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
