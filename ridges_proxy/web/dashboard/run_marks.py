"""The mark of a run that is at its end or near it: a word, and the colour of its bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.ledger import RunState, end_state
from ridges_proxy.web.dashboard.run_filters import TEXTS

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage

TONES = {RunState.NEAR: "near", RunState.EXHAUSTED: "full"}
"""Names of colours, as budgets have them (levels.py)."""


class RunMark(NamedTuple):
    """The same words as in the filters above the table."""

    text: str = ""
    """Empty for a run that is not near its end."""
    tone: str = ""
    """The name of its colour: `near`, `full` or empty."""


def mark_of(run: RunUsage) -> RunMark:
    """The mark of a run. Its budget must be the present one."""
    state = end_state(run)
    return RunMark() if state is None else RunMark(TEXTS[state].lower(), TONES.get(state, ""))
