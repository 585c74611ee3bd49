"""The outcome of a trial: what happened, what must have happened, and what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridges_proxy.fake_chutes.faults import EARLY_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable

NANOUSD_PER_TOKEN = 270
NANOUSD_PER_SECOND = 100_000
EMBEDDING_DEADLINE_SECONDS = 3
"""Of this proxy: the hold of an embedding pays for so long, and no embedding may cost more."""

UNREPORTED_PROMPT_TOKENS = 400
"""What a hold has for a prompt above the tokens that the upstream counts: the allowances for templates
(256 a call, 16 a message), and the bytes of the prompts here, of which none has more than 128."""

ANSWER_NANOUSD = 1_000 * NANOUSD_PER_TOKEN
"""The least that the upstream bills for the longest permitted answer, 1,024 tokens. Rounded down, because the
last answer that a budget pays for is a little shorter."""


@dataclass(frozen=True)
class Minimum:
    """The least that must have happened. Otherwise the trial is inconclusive, and its zeros mean nothing."""

    calls: int
    """Calls that the upstream received and did not refuse."""
    billed_nanousd: int = 0
    """By the upstream."""
    tested_calls: int = 0
    """Calls that were in the situation which the scenario tests."""
    refused: int = 0
    """Calls that must be refused, and were."""

    def shortfall(self, outcome: Outcome) -> str | None:
        """The figures that are too small; None if there are none."""
        figures = {name: (getattr(outcome, name), minimum) for name, minimum in vars(self).items()}
        too_small = [
            f"{name} {figure} of {minimum}" for name, (figure, minimum) in figures.items() if figure < minimum
        ]
        return ", ".join(too_small) or None


@dataclass(frozen=True)
class PermittedCharges:
    """The amount that a gateway may charge for the calls that the upstream received."""

    reported_factor: int | None = 1
    """The usage that the upstream reports, divided by the true one. None: it reports no credible usage, so
    that a call may cost its hold."""
    unsure_calls: int = 0
    """The first calls, so many of them, may cost their holds: their clients left, or their worker died."""
    embedding_seconds: float = 0.0
    """The duration of all other embeddings, as their clients measured it. Embeddings are billed by time."""

    def total_nanousd(self, calls: Iterable[dict[str, Any]]) -> int:
        """The most that may be charged for all these calls of the upstream's list."""
        embeddings = math.ceil(self.embedding_seconds * NANOUSD_PER_SECOND)
        return embeddings + sum(self._call_nanousd(call) for call in calls if is_chargeable(call))

    def _call_nanousd(self, call: dict[str, Any]) -> int:
        is_sure = call["n"] > self.unsure_calls and call["outcome"] == "done"
        if self.reported_factor is None or not is_sure:
            return max(hold_nanousd(call), int(call["billed_nanousd"]))
        if is_embedding(call):
            return 1  # its time is in embedding_seconds; this is for rounding up
        return self.reported_factor * int(call["billed_nanousd"])


def is_chargeable(call: dict[str, Any]) -> bool:
    """Whether the upstream accepted the call. It may bill one whose gateway answered that it timed out."""
    return call["outcome"] != "refused" and call["fault"] not in EARLY_STATUSES - {"gateway_timeout"}


def is_embedding(call: dict[str, Any]) -> bool:
    return str(call["path"]).endswith("/embed")


def hold_nanousd(call: dict[str, Any]) -> int:
    """The largest possible hold of a call. A gateway asks the upstream for no more tokens than it holds."""
    if is_embedding(call):
        return EMBEDDING_DEADLINE_SECONDS * NANOUSD_PER_SECOND
    choices = int((call["body"] or {}).get("n") or 1)
    tokens = int(call["prompt_tokens"]) + choices * (UNREPORTED_PROMPT_TOKENS + int(call["max_tokens"] or 0))
    return tokens * NANOUSD_PER_TOKEN


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """The amounts of a budget: those of the upstream, and those that the gateway reports."""

    budget_nanousd: int
    billed_nanousd: int
    """By the upstream."""
    spent_nanousd: int | None
    """As the gateway reports it; None if it does not."""
    held_nanousd: int
    """With no call in flight."""
    permitted_nanousd: int
    """The most that the gateway may charge."""
    calls: int
    """Calls that the upstream received and did not refuse."""
    charged_calls: int
    """As the gateway reports it; 0 if it does not."""

    @property
    def overspend_nanousd(self) -> int:
        """Billed above the budget."""
        return max(0, self.billed_nanousd - self.budget_nanousd)

    @property
    def unrecorded_nanousd(self) -> int:
        """Billed, but not recorded as spent. The run can overspend by as much later."""
        return 0 if self.spent_nanousd is None else max(0, self.billed_nanousd - self.spent_nanousd)

    @property
    def overcharge_nanousd(self) -> int:
        """Charged above what is permitted."""
        return max(0, (self.spent_nanousd or 0) - self.permitted_nanousd)

    @property
    def surplus_charges(self) -> int:
        """Calls that were charged twice, or charged although they never reached the upstream."""
        return max(0, self.charged_calls - self.calls)

    def wrong_amounts(self, *, ledger_lost: bool) -> dict[str, int]:
        """Every amount that is wrong, by its name."""
        losses = {"overspend": self.overspend_nanousd, "unrecorded": self.unrecorded_nanousd}
        figures = {
            **({} if ledger_lost else losses),
            "held": self.held_nanousd,
            "overcharge": self.overcharge_nanousd,
            "surplus charges": self.surplus_charges,
        }
        return {name: value for name, value in figures.items() if value}


@dataclass(frozen=True, kw_only=True)
class LevelOutcome(Amounts):
    """The outcome of one of several budgets that limit the same calls."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Outcome(Amounts):
    """The outcome of a trial, all of its runs together."""

    tested_calls: int
    refused: int
    ledger_lost: bool
    """The ledger was in the memory of a process that has ended, which the gateway documents."""
    levels: tuple[LevelOutcome, ...] = ()
    """Of each run and of each budget that runs share, if the trial has such budgets."""
    inconclusive: str | None = None
    """Why this outcome means nothing."""

    @property
    def overspend_percent(self) -> float:
        """Billed above the budget, in percent of it; the largest of all levels."""
        return max(100 * each.overspend_nanousd / each.budget_nanousd for each in (self, *self.levels))

    @property
    def is_inconclusive(self) -> bool:
        """Whether an overspend of 0 means nothing. An overspend above 0 always counts."""
        return self.inconclusive is not None and not self.overspend_percent

    def faults(self) -> dict[str, int | str]:
        """Everything that is wrong, by its name."""
        faults: dict[str, int | str] = {"inconclusive": self.inconclusive} if self.inconclusive else {}
        faults |= self.wrong_amounts(ledger_lost=self.ledger_lost)
        for level in self.levels:
            for name, value in level.wrong_amounts(ledger_lost=self.ledger_lost).items():
                faults[f"{name} of {level.name}"] = value
        return faults
