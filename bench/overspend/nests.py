"""Budgets that the runs of a trial share, and the bills of the upstream for each of their levels."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from bench.http_request import MODEL
from bench.overspend.gateways import Spending
from bench.overspend.outcome import LevelOutcome, is_chargeable
from bench.overspend.requests import CallKind
from bench.overspend.shared_budgets import LevelKey, SharedBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.overspend.gateways import Gateway, Run
    from bench.overspend.outcome import PermittedCharges
    from bench.overspend.requests import GatewayRequest

RUNS = 20
GROUPS = ("team:red", "team:green", "team:blue")
PATTERN = "team:*"
DEAR_MODEL = "moonshotai/Kimi-K2-Instruct"
MODELS = (MODEL, DEAR_MODEL)
KINDS = (CallKind.AGENTS, CallKind.WHOLE, CallKind.STREAM)

ALL_NANOUSD = 1_900_000
GROUP_NANOUSD = 800_000
MODEL_NANOUSD = RUN_NANOUSD = 1_150_000
"""Budgets for five calls of all runs, two of each group, three of the dear model, and three of each run."""

SENT_AFTER = "+"
"""The end of the label of a call that was sent after the end of the first period."""


class Nest:
    """Runs in groups under budgets for all calls, for each group and for a model."""

    def __init__(self, gateway: Gateway, ends_at: int, new_run: Callable[[tuple[str, ...]], Run]) -> None:
        name = f"nest-{random.SystemRandom().randrange(10**9)}"
        self.ends_at: float = ends_at
        self.budgets = (
            SharedBudget(f"{name}-all", ALL_NANOUSD, "day", ends_at),
            SharedBudget(f"{name}-team", GROUP_NANOUSD, "hour", ends_at, group=PATTERN),
            SharedBudget(f"{name}-dear", MODEL_NANOUSD, "day", ends_at, model=DEAR_MODEL),
        )
        self._gateway = gateway
        self._new_run = new_run
        self._runs: list[Run] = []

    def begin(self) -> None:
        """Let the gateway apply the budgets, and begin the runs. The last one has two groups."""
        self._gateway.set_budgets(self.budgets)
        self._runs = [self._new_run(groups_of(number)) for number in range(RUNS)]

    def request(self, number: int, prompt: Callable[[str], str]) -> GatewayRequest:
        """The call with this number: its run, its kind and its model follow from it.

        The prompt is made for the label that tells the upstream the run.
        """
        run = self._runs[number % RUNS]
        label = f"{number % RUNS}{SENT_AFTER if time.time() >= self.ends_at else ''}"
        kind, model = KINDS[number // 7 % len(KINDS)], MODELS[number // RUNS % len(MODELS)]
        return self._gateway.request(run, kind, prompt(label), model=model)

    def outcomes(
        self,
        calls: Sequence[dict[str, Any]],
        permitted: PermittedCharges,
        spendings: Sequence[Spending | None],
    ) -> Iterator[LevelOutcome]:
        """The outcome of each run and of each level, by the calls in the upstream's books."""
        for number, (run, spending) in enumerate(zip(self._runs, spendings, strict=True)):
            own = [call for call in calls if _run_number(call) == number]
            yield _outcome(f"run {number}", run.budget_nanousd, own, own, permitted, spending)
        reported = self._gateway.levels(self.budgets)
        for budget in self.budgets:
            for scope, within in _scopes(budget, calls):
                name = f"{budget.name} {scope}"
                # A call that was sent before the end of the period and arrived after it is in one of the two.
                yield _outcome(name, 2 * budget.amount_nanousd, within, within, permitted, None)
                for is_first in (True, False):
                    sure = [call for call in within if self._is_held_in_first(call) is is_first]
                    possible = [call for call in within if self._is_held_in_first(call) is not (not is_first)]
                    key = LevelKey(budget.name, scope, is_first)
                    spending = None if reported is None else reported.get(key, Spending(0))
                    period = f"{name}, {'first' if is_first else 'second'} period"
                    yield _outcome(period, budget.amount_nanousd, sure, possible, permitted, spending)

    def held_nanousd(self) -> int:
        """The open holds of all levels, as the gateway reports them."""
        return sum(level.held_nanousd for level in (self._gateway.levels(self.budgets) or {}).values())

    def _is_held_in_first(self, call: dict[str, Any]) -> bool | None:
        """Whether the call was held in the first period; None if that is not known.

        A gateway holds a call after it was sent, and before the upstream receives it.
        """
        if call["received_at"] < self.ends_at:
            return True
        return False if str(call["label"]).endswith(SENT_AFTER) else None


def groups_of(number: int) -> tuple[str, ...]:
    """The groups of the run with this number. The last run has two."""
    group = GROUPS[number % len(GROUPS)]
    return (group, GROUPS[0]) if number == RUNS - 1 else (group,)


def _scopes(
    budget: SharedBudget, calls: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each scope of a budget, with its calls."""
    if budget.group is not None:
        for group in GROUPS:
            yield f"group:{group}", [call for call in calls if group in groups_of(_run_number(call))]
    elif budget.model is not None:
        yield f"model:{budget.model}", [call for call in calls if call["model"] == budget.model]
    else:
        yield "all", list(calls)


def _run_number(call: dict[str, Any]) -> int:
    return int(str(call["label"]).removesuffix(SENT_AFTER))


def _outcome(  # noqa: PLR0913, PLR0917 - the two books of a budget
    name: str,
    budget_nanousd: int,
    sure: Sequence[dict[str, Any]],
    possible: Sequence[dict[str, Any]],
    permitted: PermittedCharges,
    spending: Spending | None,
) -> LevelOutcome:
    return LevelOutcome(
        name=name,
        budget_nanousd=budget_nanousd,
        billed_nanousd=sum(call["billed_nanousd"] for call in sure),
        spent_nanousd=None if spending is None else spending.spent_nanousd,
        held_nanousd=0 if spending is None else spending.held_nanousd,
        permitted_nanousd=permitted.total_nanousd(possible),
        calls=sum(map(is_chargeable, possible)),
        charged_calls=0 if spending is None else spending.charged_calls,
    )
