"""The present levels of runs, so that their callers and operators can see them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.billing.budgets import Budgets
    from ridges_proxy.ledger import Ledger, RunUsage


def with_levels(
    usages: Sequence[RunUsage], budgets: Budgets, ledger: Ledger, now: float
) -> Sequence[RunUsage]:
    """Return the usages with all levels on which some call of the run may draw, by the usage's groups.

    Time is in seconds since the epoch. The ledger is asked once for all runs, and not at all without budgets.
    """
    of_runs = [budgets.levels_of(usage.groups, None, None, now) for usage in usages]
    levels = list(dict.fromkeys(level for of_run in of_runs for level in of_run))
    if not levels:
        return usages
    found = dict(zip(levels, ledger.levels(levels), strict=True))
    return [
        replace(usage, levels=tuple(found[level] for level in of_run))
        for usage, of_run in zip(usages, of_runs, strict=True)
    ]
