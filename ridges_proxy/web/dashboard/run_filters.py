"""The links above the table of runs: each shows the runs in one state, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.ledger import RunState

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunPage, RunQuery

TEXTS = {
    None: "All",
    RunState.IN_FLIGHT: "In flight",
    RunState.NEAR: "Near the limit",
    RunState.EXHAUSTED: "Exhausted",
    RunState.CLOSED: "Closed",
}


@dataclass(frozen=True, slots=True)
class RunFilter:
    """One link."""

    value: str | None
    """The state in the page's query; None for all runs."""
    text: str
    number: int
    """Runs in this state that match the search."""
    is_current: bool


def filters_of(page: RunPage, query: RunQuery) -> list[RunFilter]:
    """The links of a page, with the numbers that its list has counted."""
    return [
        RunFilter(state and state.value, text, page.counts[state], state is query.state)
        for state, text in TEXTS.items()
    ]
