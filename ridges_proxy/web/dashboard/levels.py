"""The levels of budgets on the dashboard's pages, in their present periods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ridges_proxy.ledger import LevelQuery
from ridges_proxy.web.budget_actions import known_budgets, levels_page
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ridges_proxy.ledger import LevelUsage

NEAR_PERCENT, FULL_PERCENT = 80, 100
"""Spent shares from which on a budget is shown as nearly used up, and as used up. By default, alerts are made
at the same shares (ALERT_PERCENTS)."""

OVERVIEW_LEVELS = 20
"""How many levels the overview shows."""


@dataclass(frozen=True, slots=True)
class LevelRow:
    """One level in a table."""

    usage: LevelUsage
    is_configured: bool
    """Whether its budget is in BUDGETS."""
    resets_in_seconds: float | None
    """None: its period never ends."""

    @property
    def used_percent(self) -> int:
        """The spent share, rounded down: 100 only if the amount is spent."""
        amount_nanousd = self.usage.amount_nanousd
        return 100 * self.usage.spent_nanousd // amount_nanousd if amount_nanousd else FULL_PERCENT

    @property
    def tone(self) -> str:
        """The name of its colour: `near` from NEAR_PERCENT on, `full` from FULL_PERCENT on, else empty."""
        if self.used_percent >= FULL_PERCENT:
            return "full"
        return "near" if self.used_percent >= NEAR_PERCENT else ""

    @property
    def used_text(self) -> str:
        """The spent share in words, for readers who do not see the colour."""
        words = {"full": ", used up", "near": ", nearly used up"}
        return f"{self.used_percent} %{words.get(self.tone, '')}"


@dataclass(frozen=True, slots=True)
class LevelTable:
    """One page of levels."""

    rows: list[LevelRow]
    total: int
    """Levels on all pages."""


def largest_levels() -> LevelTable | None:
    """The levels with the most spent, then those for all runs that had no call. None without BUDGETS."""
    calls = services().calls
    if not calls.budgets.names:
        return None
    table = table_of(LevelQuery(limit=OVERVIEW_LEVELS))
    shown = {row.usage.level[:3] for row in table.rows}
    of_all_runs = calls.budgets.levels_of((), None, None, calls.clock())
    unused = [level for level in of_all_runs if level[:3] not in shown][: OVERVIEW_LEVELS - len(table.rows)]
    if not unused:
        return table
    rows = [*table.rows, *rows_of(calls.ledger.levels(unused))]
    return LevelTable(rows, len(rows))


def table_of(query: LevelQuery) -> LevelTable:
    """One page of the levels that had a call in their present period."""
    current = replace(query, current_at=services().calls.clock())
    page = levels_page(current, known_budgets())
    return LevelTable(rows_of(page.levels), page.total)


def rows_of(usages: Iterable[LevelUsage]) -> list[LevelRow]:
    """The levels as rows of a table."""
    calls = services().calls
    names, now = frozenset(calls.budgets.names), calls.clock()
    return [
        LevelRow(usage, usage.level.budget in names, _seconds_until(usage.level.resets_at, now))
        for usage in usages
    ]


def _seconds_until(resets_at: float | None, now: float) -> float | None:
    return None if resets_at is None else max(0.0, resets_at - now)
