"""The mark of a run that is at its end or near it: a word, and the colour of its bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.ledger import RunState, end_state

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage


class RunMark(NamedTuple):
    """The same words as in the filters above the table."""

    text: str
    """Empty for a run that is not near its end."""
    tone: str
    """The name of its colour: `near`, `full` or empty."""


NO_MARK = RunMark("", "")

MARKS = {
    RunState.NEAR: RunMark("near the limit", "near"),
    RunState.EXHAUSTED: RunMark("exhausted", "full"),
    RunState.CLOSED: RunMark("closed", ""),
}


def mark_of(run: RunUsage) -> RunMark:
    """The mark of a run. Its budget must be the present one."""
    state = end_state(run)
    return NO_MARK if state is None else MARKS[state]
