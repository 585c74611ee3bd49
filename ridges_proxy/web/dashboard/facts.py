"""The state of the service for the dashboard: what may be trouble."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ridges_proxy.ledger import RunState
from ridges_proxy.web.dashboard.chart_data import MAX_SPAN_SECONDS
from ridges_proxy.web.dashboard.intervals import intervals_of
from ridges_proxy.web.dashboard.trouble import Facts, Upstream
from ridges_proxy.web.schemas.budget_query import LevelState
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.telemetry.metrics import Totals
    from ridges_proxy.web.dashboard.levels import LevelTable


def facts_of(
    totals: Totals, upstream: Upstream, levels: LevelTable | None, runs: Mapping[RunState | None, int]
) -> Facts:
    """Collect the facts. `runs` are the numbers in each state."""
    numbers = levels.numbers if levels else Counter()
    swept_at = totals.last_sweep_at
    return Facts(
        upstream=upstream,
        circuits_open=totals.circuits_open,
        down_models=services().circuits.down,
        accepts_writes=services().write_check.accepts_writes(),
        settlements_kept=max(totals.settlements_kept, services().outbox.kept()),
        sweep_age_seconds=None if swept_at is None else max(0.0, time.time() - swept_at),
        sweep_late_after_seconds=services().sweeper.late_after_seconds,
        webhook_fails=totals.webhook_fails,
        degraded=services().degraded(),
        budgets_full=numbers[LevelState.FULL],
        budgets_near=numbers[LevelState.NEAR],
        runs_near=runs[RunState.NEAR],
        waiting=totals.waiting,
    )


def facts_without_ledger() -> Facts:
    """Collect what is known while the ledger does not answer: nothing of budgets and runs."""
    totals = services().metrics.totals()
    samples = services().history.samples(MAX_SPAN_SECONDS, totals)
    upstream = Upstream.of(intervals_of(samples), samples[-1].at)
    return replace(facts_of(totals, upstream, None, Counter()), is_readable=False)
