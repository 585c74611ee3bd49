"""The record of a run: its groups, times, refusals and costs. The source of `RunDetail`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.ledger.models import Kind, ModelCost, RunDetail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.ledger.models import CallRecord, Run, RunUsage

MAX_REFUSAL_CODES = 64
"""Codes of refusals that are counted apart. The proxy has fewer; a store's rows must stay small."""


@dataclass(slots=True)
class RunRecord:
    """Groups, times, refusals and costs of one run. Times are seconds on the ledger's clock."""

    groups: tuple[str, ...] = ()
    first_call_at: float | None = None
    last_call_at: float | None = None
    refused: dict[str, int] = field(default_factory=dict)
    costs: dict[tuple[str, Kind], ModelCost] = field(default_factory=dict)
    had_token: bool = False

    def add_call(self, run: Run, now: float) -> None:
        """Record a granted reservation."""
        self.groups = run.groups
        self.had_token |= run.has_token
        self.last_call_at = now
        if self.first_call_at is None:
            self.first_call_at = now

    def add_cost(self, model: str, kind: Kind, cost_nanousd: int, call: CallRecord | None) -> None:
        """Record a charged call. None: nothing is known of its tokens."""
        before = self.costs.get((model, kind)) or ModelCost(model, kind)
        self.costs[model, kind] = ModelCost(
            model,
            kind,
            before.calls + 1,
            before.prompt_tokens + (call.prompt_tokens if call else 0),
            before.completion_tokens + (call.completion_tokens if call else 0),
            before.cost_nanousd + cost_nanousd,
        )

    def add_refusals(self, numbers: Mapping[str, int]) -> None:
        """Count refused calls by code."""
        for code, number in numbers.items():
            if code in self.refused or len(self.refused) < MAX_REFUSAL_CODES:
                self.refused[code] = self.refused.get(code, 0) + number

    def reset(self) -> None:
        """Forget costs and refusals."""
        self.refused.clear()
        self.costs.clear()

    def copy(self) -> RunRecord:
        """Return a copy that changes do not share."""
        return replace(self, refused=self.refused.copy(), costs=self.costs.copy())

    def detail(self) -> RunDetail:
        """Return the public form."""
        costs = sorted(self.costs.values(), key=lambda cost: (-cost.cost_nanousd, cost.model, cost.kind))
        times = self.first_call_at, self.last_call_at
        return RunDetail(*times, dict(self.refused), tuple(costs), self.had_token)

    def to_json(self) -> str:
        """Return the text that a store keeps: all of it as one list."""
        costs = [list(cost) for cost in self.costs.values()]
        times = self.first_call_at, self.last_call_at
        return orjson.dumps([self.groups, *times, self.refused, costs, self.had_token]).decode()


def record_of(usage: RunUsage) -> RunRecord:
    """Return the record from which the usage was made."""
    detail = usage.detail or RunDetail()
    costs = {(cost.model, cost.kind): cost for cost in detail.costs}
    times = detail.first_call_at, detail.last_call_at
    return RunRecord(usage.groups, *times, dict(detail.refused), costs, detail.had_token)


def run_record_of(text: str) -> RunRecord:
    """Parse the text of `to_json`. An empty text is that of a run of an earlier version."""
    if not text:
        return RunRecord()
    groups, first_call_at, last_call_at, refused, costs, had_token = orjson.loads(text)
    found: dict[tuple[str, Kind], ModelCost] = {}
    for model, value, *sums in costs:
        kind = Kind(value)
        found[model, kind] = ModelCost(model, kind, *sums)
    return RunRecord(tuple(groups), first_call_at, last_call_at, refused, found, had_token)
