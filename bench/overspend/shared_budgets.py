"""Budgets that runs share, and their levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class SharedBudget:
    """A budget that runs share."""

    name: str
    amount_nanousd: int
    window: str
    """Hour or day."""
    ends_at: int
    """End of its first period, in seconds since the epoch."""
    group: str | None = None
    model: str | None = None


class LevelKey(NamedTuple):
    """One budget for one scope in one period."""

    budget: str
    scope: str
    is_first: bool
    """Whether it is the period that ends at `SharedBudget.ends_at`."""
