"""A ledger whose verbs are timed and whose errors are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ridges_proxy.ledger.interface import Ledger

if TYPE_CHECKING:
    from ridges_proxy.telemetry.metrics import Metrics

VERBS = tuple(name for name in vars(Ledger) if not name.startswith("_"))


class _Metered:
    """Has the contract's verbs as attributes: there is nothing to say of one that is not true of all."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        for verb in VERBS:
            setattr(self, verb, metrics.timed(verb, getattr(ledger, verb)))


def measured(ledger: Ledger, metrics: Metrics) -> Ledger:
    """The same ledger, measured."""
    return cast("Ledger", _Metered(ledger, metrics))
