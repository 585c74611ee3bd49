"""The rules by which a charge or a refusal makes an alert. Memory and SQLite ledgers use them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger.models import Alert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.ledger.sums import Sums

USED_UP_PERCENT = 100
NEARLY_USED_PERCENT = 80
"""A refusal means "used up" only above this share, or above the largest percentage below 100 that is set.
Otherwise one call with a huge prompt would cause an alert on an untouched budget."""

MAX_ALERTS = 10_000
"""Limit of alerts that a ledger keeps for delivery. Above it the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The shares of a budget at which an alert is made."""

    percents: tuple[int, ...] = ()
    """In rising order, from 1 to 100. Empty: no alerts."""
    runs: bool = False
    """Whether the budget of each run has alerts, too."""

    def crossed(self, account: Sums, level: Level, now: float, *, refused: bool = False) -> Sequence[Alert]:
        """Return the alerts for the shares that the account has reached since its last alert."""
        reached = self.reached(account.spent_nanousd, level.amount_nanousd, refused=refused)
        if reached <= account.alerted_percent:
            return ()
        new = [percent for percent in self.percents if account.alerted_percent < percent <= reached]
        account.alerted_percent = new[-1] if new else account.alerted_percent
        return [
            Alert(
                id=uuid.uuid4().hex,
                at=now,
                budget=level.budget,
                scope=level.scope,
                period=level.period,
                percent=percent,
                amount_nanousd=level.amount_nanousd,
                spent_nanousd=account.spent_nanousd,
                resets_at=level.resets_at,
            )
            for percent in new
        ]

    def change_amount(self, account: Sums, amount_nanousd: int) -> None:
        """Allow alerts again for shares that the account is below with its new amount."""
        reached = self.reached(account.spent_nanousd, amount_nanousd)
        account.alerted_percent = min(account.alerted_percent, reached)

    def reached(self, spent_nanousd: int, amount_nanousd: int, *, refused: bool = False) -> int:
        """Return the largest share, in percent, that this amount is of a budget; 0 below all shares.

        While nothing is spent, it is 0 also of a budget of 0, whose every call is refused: such a level may
        have no account that could remember its alert.
        """
        reached = 0
        if not spent_nanousd:
            return reached
        for percent in self.percents:
            if 100 * spent_nanousd >= percent * amount_nanousd:
                reached = percent
        if refused and 100 * spent_nanousd >= self._nearly_used_percent() * amount_nanousd:
            return USED_UP_PERCENT
        return reached

    def _nearly_used_percent(self) -> int:
        below = [percent for percent in self.percents if percent < USED_UP_PERCENT]
        return below[-1] if below else NEARLY_USED_PERCENT


NO_ALERTS = AlertRules()


def run_level(run_id: str, budget_nanousd: int) -> Level:
    """Return the budget of a run as a level, for its alerts."""
    return Level("run", run_id, "lifetime", budget_nanousd)
