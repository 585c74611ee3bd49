"""The account of one level, and the rules by which it changes. Memory and SQLite ledgers use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import LevelUsage
from ridges_proxy.ledger.sums import Sums

if TYPE_CHECKING:
    from ridges_proxy.billing.levels import Level

ENDED_LEVEL_SECONDS = 86_400.0
"""Time for which a level is kept after the end of its period: a clock that was set back by less finds it."""


@dataclass(slots=True)
class LevelAccount(Sums):
    """The account of one level. Change it only under the ledger's lock, or in a transaction."""

    level: Level
    """As in the last reservation, with the amount in BUDGETS."""
    amount_nanousd: int
    """The amount in force: that of the level, or the one that an operator has set."""
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    in_flight: int = 0
    alerted_percent: int = 0

    @property
    def in_force(self) -> Level:
        """The level with the amount in force."""
        level = self.level
        return (
            level
            if level.amount_nanousd == self.amount_nanousd
            else level._replace(amount_nanousd=self.amount_nanousd)
        )

    def take_terms(self, other: LevelAccount) -> None:
        """Take the amounts, the end and the alerted share of another account of this level."""
        self.level, self.amount_nanousd = other.level, other.amount_nanousd
        self.alerted_percent = other.alerted_percent

    def refuses(self, minimum_nanousd: int) -> bool:
        """Whether what is not spent is too small for a call that needs this amount at least."""
        return minimum_nanousd > self.amount_nanousd - self.spent_nanousd

    def may_be_dropped(self, now: float) -> bool:
        """Whether the period ended long ago, and no hold of it is open."""
        resets_at = self.level.resets_at
        return resets_at is not None and now >= resets_at + ENDED_LEVEL_SECONDS and not self.in_flight

    def usage(self) -> LevelUsage:
        """Return the usage of the level as it is now."""
        return LevelUsage(
            self.in_force,
            self.inference_nanousd,
            self.embedding_nanousd,
            self.held_nanousd,
            self.calls,
            self.in_flight,
        )
