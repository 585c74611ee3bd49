"""A ledger that records the duration and the errors of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ridges_proxy.ledger.interface import Ledger

if TYPE_CHECKING:
    from ridges_proxy.telemetry.metrics import Metrics

METHODS = tuple(name for name in vars(Ledger) if not name.startswith("_"))


class _InstrumentedLedger:
    """A ledger whose methods are attributes: every method is wrapped in the same way."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        for name in METHODS:
            setattr(self, name, metrics.timed(name, getattr(ledger, name)))


def measured(ledger: Ledger, metrics: Metrics) -> Ledger:
    """Wrap the ledger, so that its methods are recorded in the metrics."""
    return cast("Ledger", _InstrumentedLedger(ledger, metrics))
