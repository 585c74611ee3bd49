"""The present levels of runs: what limits their next call, for the proxy, their callers and operators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.ledger import RunUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.billing.budgets import Budgets
    from ridges_proxy.ledger import Ledger, Run


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


def usage_before_call(run: Run, ledger: Ledger) -> RunUsage:
    """Return the usage with the limits of the run's next call: its budget and its levels."""
    usage = ledger.usage(run.id) or RunUsage(run.id, run.budget_nanousd)
    levels = tuple(ledger.levels(run.levels)) if run.levels else ()
    return replace(usage, budget_nanousd=run.budget_nanousd, groups=run.groups, levels=levels)
