"""Sums of what runs have spent, by day, model and group. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.ledger.interface import DAY_SECONDS

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage

MAX_NAMES = 500
"""Limit of the models, and of the groups, that one day counts apart. The others are counted under OTHERS."""

OTHERS = "(others)"


@dataclass(slots=True)
class Sum:
    """The sum of some runs, or of their parts."""

    runs: int = 0
    """A run that was forgotten and began again with its whole budget counts twice."""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0

    def add(self, other: Sum) -> None:
        """Add another sum."""
        self.runs += other.runs
        self.calls += other.calls
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost_nanousd += other.cost_nanousd


Sums = defaultdict[str | None, Sum]
"""Sums by name. None: no model is known, or the run has no group."""


@dataclass(slots=True)
class SpendSums:
    """The sums of some runs. Each run counts for each of its groups."""

    total: Sum = field(default_factory=Sum)
    models: Sums = field(default_factory=lambda: defaultdict(Sum))
    groups: Sums = field(default_factory=lambda: defaultdict(Sum))

    def add_run(self, run: RunUsage) -> None:
        """Add a run with its detail."""
        parts = _parts_by_model(run)
        whole = Sum(1, run.calls, cost_nanousd=run.spent_nanousd)
        whole.prompt_tokens = sum(part.prompt_tokens for part in parts.values())
        whole.completion_tokens = sum(part.completion_tokens for part in parts.values())
        self.total.add(whole)
        for model, part in parts.items():
            _add(self.models, model, part)
        for group in run.groups or (None,):
            _add(self.groups, group, whole)

    def add(self, other: SpendSums) -> None:
        """Add the sums of other runs."""
        self.total.add(other.total)
        for sums, others in ((self.models, other.models), (self.groups, other.groups)):
            for name, part in others.items():
                sums[name].add(part)


def _add(sums: Sums, name: str | None, part: Sum) -> None:
    known = name in sums or len(sums) < MAX_NAMES
    sums[name if known else OTHERS].add(part)


def _parts_by_model(run: RunUsage) -> Sums:
    """The parts of a run by model, and what no model accounts for."""
    parts: Sums = defaultdict(Sum)
    rest = Sum(1, run.calls, cost_nanousd=run.spent_nanousd)
    for cost in run.detail.costs if run.detail else ():
        part = Sum(1, cost.calls, cost.prompt_tokens, cost.completion_tokens, cost.cost_nanousd)
        parts[cost.model or None].add(part)
        rest.calls -= cost.calls
        rest.cost_nanousd -= cost.cost_nanousd
    if rest.calls or rest.cost_nanousd:
        parts[None].add(rest)
    for part in parts.values():
        part.runs = 1
    return parts


def largest(sums: Sums) -> list[tuple[str | None, Sum]]:
    """The sums with their names, the largest cost first."""
    return sorted(sums.items(), key=lambda item: (-item[1].cost_nanousd, item[0] or ""))


def day_of(at: float) -> int:
    """The UTC day of a time in seconds since the epoch, as the number of days since then."""
    return int(at // DAY_SECONDS)
