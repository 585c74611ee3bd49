"""A level: one budget above a run, for one scope in one period."""

from __future__ import annotations

from typing import NamedTuple


class Level(NamedTuple):
    """A budget that a call draws on beside the budget of its run, in its present period.

    Budget, scope and period together identify its account in the ledger.
    """

    budget: str
    """Name of the budget in BUDGETS."""
    scope: str
    """The calls that share it: `all`, or `group:NAME`, `model:NAME` and `kind:NAME`, joined by spaces."""
    period: str
    """The window and its start: `lifetime`, `hour 2026-11-30T14:00Z`, `day 2026-11-30`, `week 2026-11-30`
    (its Monday) or `month 2026-11`. Start of an hour in UTC; dates are those of the budget's time zone."""
    amount_nanousd: int
    """Limit of all calls of the period, unless the ledger has another amount for this budget."""
    resets_at: float | None = None
    """End of the period, in seconds since the epoch; None: it never ends."""

    @property
    def window(self) -> str:
        """The kind of window: lifetime, hour, day, week or month."""
        return self.period.partition(" ")[0]
