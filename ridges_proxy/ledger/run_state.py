"""States by which a list of runs is filtered and counted."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

NEAR_PART = 5
"""A run is near its limit if at most one part in this many of its budget is not spent."""

NEAR_PERCENT = 100 - 100 // NEAR_PART
"""The same as the spent share, from which on pages and messages call a run or a budget near its limit."""


class RunState(StrEnum):
    """State of a run. It has at most one of the last three, and IN_FLIGHT beside any of them."""

    IN_FLIGHT = "in_flight"
    """It has open holds."""
    NEAR = "near"
    """At least 80 % of its budget is spent, and it is neither exhausted nor closed."""
    EXHAUSTED = "exhausted"
    """It is finished, and was not closed: its budget is used up."""
    CLOSED = "closed"


class ListedRun(Protocol):
    """The properties of a run that decide about its state."""

    @property
    def budget_nanousd(self) -> int:
        """The budget of its last reservation."""
        ...

    @property
    def own_budget(self) -> bool:
        """Whether that budget is of a run token."""
        ...

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        ...

    @property
    def closed(self) -> bool:
        """Whether new holds are refused."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the run is closed, or its budget is used up."""
        ...


def near_from_nanousd(budget_nanousd: int) -> int:
    """Return the spent amount from which on a run is near its limit: 80 % of the budget, rounded up."""
    return budget_nanousd - budget_nanousd // NEAR_PART


def end_state(run: ListedRun, present_budget_nanousd: int | None = None) -> RunState | None:
    """Return how far the run is towards its end: CLOSED, EXHAUSTED or NEAR; None for all others.

    The budget of a run without one of its own is the present one of the settings. None: that of its last
    reservation.
    """
    if run.closed:
        return RunState.CLOSED
    if run.finished:
        return RunState.EXHAUSTED
    budget_nanousd = run.budget_nanousd
    if present_budget_nanousd is not None and not run.own_budget:
        budget_nanousd = present_budget_nanousd
    return RunState.NEAR if run.spent_nanousd >= near_from_nanousd(budget_nanousd) else None
