"""A store of alerts in memory, and alerts for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Alert
from ridges_proxy.ledger.alert_lease import lease_seconds_of

if TYPE_CHECKING:
    from tests.support.clock import Clock


def alert_of(number: int, at: float = 1_000.0, **fields: object) -> Alert:
    """An alert of the budget of a day."""
    alert = Alert(
        id=f"alert-{number}",
        at=at,
        budget="miner",
        scope="group:miner:7",
        period="day 2026-11-30",
        percent=80,
        amount_nanousd=5_000_000_000,
        spent_nanousd=4_010_000_000,
        resets_at=1_796_083_200.0,
    )
    return replace(alert, **fields)  # type: ignore[arg-type]


class AlertStore:
    """The alerts of all processes, with the methods of a ledger. It answers while `up` is true."""

    def __init__(self, clock: Clock, *alerts: Alert) -> None:
        self.up = True
        self.claim_seconds = 0.0
        """How long a claim takes."""
        self.claims: list[str] = []
        """The ids that were claimed, in order."""
        self._clock = clock
        self._kept = {alert.id: alert for alert in alerts}
        self._hidden_until: dict[str, float] = {}

    def claim_alerts(self, limit: int, lease_seconds: float) -> list[Alert]:
        self._check()
        free = [key for key in self._kept if self._hidden_until.get(key, 0.0) <= self._clock()][:limit]
        claimed = [self._kept[key] for key in free]
        for alert in claimed:
            self.claims.append(alert.id)
            self._hidden_until[alert.id] = self._clock() + lease_seconds_of(lease_seconds, alert.attempts)
            self._kept[alert.id] = replace(alert, attempts=alert.attempts + 1)
        self._clock.advance(self.claim_seconds)
        return claimed

    def drop_alert(self, alert_id: str) -> None:
        self._check()
        self._kept.pop(alert_id, None)

    def kept(self) -> list[str]:
        """The ids of the alerts that are left."""
        return list(self._kept)

    def next_claim_seconds(self) -> float:
        """The time until an alert can be claimed."""
        return min(self._hidden_until.values()) - self._clock()

    def _check(self) -> None:
        if not self.up:
            raise LedgerUnavailableError
