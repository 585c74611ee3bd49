"""Budgets above the runs: which of them a call draws on, and in which period."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.levels import Level
from ridges_proxy.billing.windows import UTC_ZONE, period_at, zone_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.billing.windows import Period, Window

ANY_TEXT = "*"
"""In the pattern of a group: any text, also none."""

ALL = "all"
"""Scope of a budget without conditions."""

_TEXT_OF_GROUP = re.compile(r"[!-)+-~]*")
"""What `*` stands for: visible ASCII characters without spaces and `*`, as in the names of groups."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One entry of BUDGETS: a limit for all calls that meet its conditions, in each period of its window."""

    name: str
    amount_nanousd: int
    window: Window
    zone: str = UTC_ZONE
    """Name of the time zone whose calendar the window follows."""
    group: str | None = None
    """Group that the run's token must name, or a pattern with one `*`: each group that matches has the amount
    for itself. None: all runs."""
    model: str | None = None
    """Name of the model, as callers name it, or as the upstream does: then calls by an alias count, too.
    None: all models."""
    kind: str | None = None
    """`inference` or `embedding`. None: both."""

    def scope_of(self, group: str | None) -> str:
        """Return the scope of the budget's level for a group that matches."""
        conditions = (("group", group), ("model", self.model), ("kind", self.kind))
        return " ".join([f"{name}:{value}" for name, value in conditions if value is not None]) or ALL

    def has_scope(self, scope: str) -> bool:
        """Return whether a level of the budget can have this scope."""
        pattern = self.scope_of(self.group)
        if ANY_TEXT not in (self.group or ""):
            return scope == pattern
        start, _, end = pattern.partition(ANY_TEXT)
        text = _TEXT_OF_GROUP.fullmatch(scope, len(start), len(scope) - len(end))  # None if they overlap
        return text is not None and scope.startswith(start) and scope.endswith(end)


class Budgets:
    """The budgets in force. Each keeps its present period, so a call does not pay for the calendar."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        """Raises ValueError for a time zone that this machine does not know."""
        self._entries = tuple(map(_Entry, budgets))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the budgets, in the order of BUDGETS."""
        return tuple(entry.budget.name for entry in self._entries)

    def replace(self, budgets: Sequence[Budget]) -> None:
        """Replace all budgets, for the calls that begin afterwards. Raises ValueError as `__init__` does.

        What a level has spent stays in the ledger: a budget with the same name continues with it.
        """
        self._entries = tuple(map(_Entry, budgets))

    @property
    def all(self) -> tuple[Budget, ...]:
        """The budgets, in the order of BUDGETS."""
        return tuple(entry.budget for entry in self._entries)

    def levels_of(
        self,
        groups: tuple[str, ...],
        model: str | None,
        kind: str | None,
        now: float,
        upstream_model: str | None = None,
    ) -> tuple[Level, ...]:
        """Return the levels that a call draws on at this time, in seconds since the epoch.

        In the order of BUDGETS; of one budget, in the order of the groups, which must differ from each other.
        `model` and `kind`: None stands for any, so that all levels of a run can be shown. `upstream_model` is
        the upstream's name of the model if `model` is an alias.
        """
        if not self._entries:
            return ()
        found: list[Level] = []
        for entry in self._entries:
            budget = entry.budget
            if (budget.model is None or model is None or budget.model in {model, upstream_model}) and (
                budget.kind is None or kind is None or budget.kind == kind
            ):
                entry.add_levels(found, groups, now)
        return tuple(found)


class _Entry:
    """One budget, with the level of its present period."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._zone = zone_of(budget.zone)
        self._before, star, self._after = (budget.group or "").partition(ANY_TEXT)
        self._shortest = len(self._before) + len(self._after)
        self._is_pattern = bool(star)
        self._scope_start, _, self._scope_end = budget.scope_of(ANY_TEXT).partition(ANY_TEXT)
        self._present = self._at(0)

    def add_levels(self, found: list[Level], groups: tuple[str, ...], now: float) -> None:
        """Add the levels of a run with these groups. The call meets the other conditions."""
        period, level = self._present
        if not period.begins_at <= now < period.ends_at:
            self._present = period, level = self._at(now)
        if self._is_pattern:
            name, _, text, amount_nanousd, resets_at = level
            start, end = self._scope_start, self._scope_end
            found += [
                Level(name, f"{start}{group}{end}", text, amount_nanousd, resets_at)
                for group in groups
                if len(group) >= self._shortest
                and group.startswith(self._before)
                and group.endswith(self._after)
            ]
        elif self.budget.group is None or self.budget.group in groups:
            found.append(level)

    def _at(self, now: float) -> tuple[Period, Level]:
        budget, period = self.budget, period_at(self.budget.window, self._zone, now)
        scope = budget.scope_of(budget.group)
        return period, Level(budget.name, scope, period.text, budget.amount_nanousd, period.resets_at)
