"""A refusal by a budget whose period ends soon: the call may be tried again then."""

from __future__ import annotations

import math

from ridges_proxy.errors import BudgetExhaustedError, PeriodFullError, RefusedError

SOON_SECONDS = 300.0
"""A caller can wait for the end of a period that is nearer than this. A later one is final for the caller."""


def refusal_for(refusal: BudgetExhaustedError, now: float) -> RefusedError:
    """Return the error for the caller: PeriodFullError if the period ends soon, else the same error.

    Times are seconds since the epoch.
    """
    resets_at = refusal.budget.resets_at
    if resets_at is None or resets_at - now >= SOON_SECONDS:
        return refusal
    return PeriodFullError(refusal.budget, max(1, math.ceil(resets_at - now)))
