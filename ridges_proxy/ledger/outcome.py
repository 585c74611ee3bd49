"""The reason why a run has ended. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import RunUsage


class EndedBy(StrEnum):
    """Reasons for which a run has ended."""

    CLOSED = "closed"
    """An operator closed it."""
    BUDGET = "budget"
    """Its budget is spent, or a call was refused because what remained did not pay for it."""
    EXPIRED = "expired"
    """It was forgotten after the end of its run token."""
    IDLE = "idle"
    """It was forgotten because it made no calls for RUN_TTL_SECONDS."""


def ended_by(usage: RunUsage, *, forgotten: bool) -> EndedBy | None:
    """Return what ended the run; None if it may go on.

    A run with a token is forgotten only after the token's end.
    """
    if usage.closed:
        return EndedBy.CLOSED
    if usage.finished:
        return EndedBy.BUDGET
    if not forgotten:
        return None
    # The receipt of an earlier version says only whether the token has set the budget.
    had_token = usage.own_budget or (usage.detail is not None and usage.detail.had_token)
    return EndedBy.EXPIRED if had_token else EndedBy.IDLE
