"""The levels of budgets on the dashboard's pages, in their present periods."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ridges_proxy.ledger import NEAR_PERCENT, LevelQuery
from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.web.budget_actions import known_budgets, levels_page
from ridges_proxy.web.schemas.budget_query import LevelState
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ridges_proxy.ledger import LevelUsage

MAX_LEVELS = MAX_LIST_OFFSET + MAX_LIST_LIMIT
"""How many levels are read and counted, those with the most spent. There are no pages of others."""

ROWS_PER_PAUSE = 200

FULL_PERCENT = 100
"""The spent share from which on a budget is shown as used up; from NEAR_PERCENT on, as nearly used up. By
default, alerts are made at the same shares (ALERT_PERCENTS)."""

OVERVIEW_LEVELS = 20
"""How many levels the overview shows."""


STATE_TEXTS = {LevelState.NEAR: "nearly used up", LevelState.FULL: "used up"}


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
    def state(self) -> LevelState | None:
        """None: less than NEAR_PERCENT is spent."""
        if self.used_percent >= FULL_PERCENT:
            return LevelState.FULL
        return LevelState.NEAR if self.used_percent >= NEAR_PERCENT else None

    @property
    def counts_as(self) -> LevelState | None:
        """The state, if the level limits calls: one whose budget is no longer in BUDGETS does not."""
        return self.state if self.is_configured else None

    @property
    def used_text(self) -> str:
        """The spent share in words, for readers who do not see the colour."""
        words = f", {STATE_TEXTS[self.state]}" if self.state else ""
        is_sliver = self.usage.spent_nanousd and not self.used_percent
        return f"{'<1' if is_sliver else self.used_percent} %{words}"


@dataclass(frozen=True, slots=True)
class LevelTable:
    """One page of levels."""

    rows: list[LevelRow]
    total: int
    """Levels on all pages."""
    numbers: Mapping[LevelState | None, int]
    """How many levels of the budgets in BUDGETS are in each state, on whatever page. None: all levels."""


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
    return LevelTable(rows, len(rows), numbers_of(rows, len(rows)))


def table_of(query: LevelQuery, state: LevelState | None = None) -> LevelTable:
    """One page of the levels that had a call in their present period: all, or those in one state.

    Reads all of them, up to MAX_LEVELS. The state of a level depends on its present amount, which the ledger
    does not know after a reload of BUDGETS.
    """
    every = replace(query, current_at=services().calls.clock(), offset=0, limit=MAX_LEVELS)
    page = levels_page(every, known_budgets())
    rows: list[LevelRow] = []
    for start in range(0, len(page.levels), ROWS_PER_PAUSE):
        rows += rows_of(page.levels[start : start + ROWS_PER_PAUSE])
        pause()
    numbers = numbers_of(rows, page.total)
    if state:
        rows = [row for row in rows if row.counts_as is state]
    return LevelTable(rows[query.offset : query.offset + query.limit], numbers[state], numbers)


def numbers_of(rows: Iterable[LevelRow], total: int) -> Mapping[LevelState | None, int]:
    """The number of levels in each state, and of all."""
    counts = Counter(row.counts_as for row in rows)
    return {None: total, **{state: counts[state] for state in LevelState}}


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
