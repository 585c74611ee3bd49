"""What a scenario came to, what must have happened in it, and what is wrong with that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridges_proxy.fake_chutes.faults import EARLY_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable

NANOUSD_PER_TOKEN = 270
NANOUSD_PER_SECOND = 100_000
EMBEDDING_SECONDS = 3
"""That ours gives an embedding: what it holds for one, and the most that it may charge."""

UNSEEN_TOKENS = 400
"""What a hold has for a prompt beside the tokens that the upstream counts: the allowances for templates
(256 a call, 16 a message), and the bytes of the prompts here, of which none has more than 128."""

ANSWER_NANOUSD = 1_000 * NANOUSD_PER_TOKEN
"""The least that the upstream bills for an answer as long as it may be, 1,024 tokens; rounded down, as the
last one that a budget pays for is a little shorter."""


@dataclass(frozen=True)
class Least:
    """What must at least have happened, or the scenario was not played, and its zeros mean nothing."""

    calls: int
    """That reached the upstream and were not refused there."""
    billed_nanousd: int = 0
    """By the upstream's books."""
    in_phase: int = 0
    """Calls that the upstream had in the moment that the scenario is about."""
    refused: int = 0
    """Calls that are meant to be refused, and were."""

    def lacking(self, outcome: Outcome) -> str | None:
        """What there was too little of; None if nothing."""
        wanted = {name: (getattr(outcome, name), least) for name, least in vars(self).items()}
        found = [f"{name} {count} of {least}" for name, (count, least) in wanted.items() if count < least]
        return ", ".join(found) or None


@dataclass(frozen=True)
class Charges:
    """What a gateway may charge, by what the upstream has seen."""

    reported: int | None = 1
    """How many times the truth the upstream says that it bills: so much is what it asks for. None: it says
    nothing that can be believed, and a call may cost its hold."""
    unsure: int = 0
    """So many calls, the first ones, may cost their holds: their clients left, or their worker died."""
    embedding_seconds: float = 0.0
    """How long the others' embeddings took, as their clients saw it: they are paid by time."""

    def most_nanousd(self, rows: Iterable[dict[str, Any]]) -> int:
        """For all calls together."""
        timed = math.ceil(self.embedding_seconds * NANOUSD_PER_SECOND)
        return timed + sum(self._most_of(row) for row in rows if is_payable(row))

    def _most_of(self, row: dict[str, Any]) -> int:
        timed = is_embedding(row)
        if self.reported is not None and row["n"] > self.unsure and row["outcome"] == "done":
            return 1 if timed else self.reported * int(row["billed_nanousd"])  # time is rounded up
        return max(hold_nanousd(row), int(row["billed_nanousd"]))


def is_payable(row: dict[str, Any]) -> bool:
    """Whether the upstream took the call, by its books."""
    return row["outcome"] != "refused" and row["fault"] not in EARLY_STATUSES


def is_embedding(row: dict[str, Any]) -> bool:
    return str(row["path"]).endswith("/embed")


def hold_nanousd(row: dict[str, Any]) -> int:
    """The most that can be held for what was sent: a gateway asks for no more tokens than it holds."""
    if is_embedding(row):
        return EMBEDDING_SECONDS * NANOUSD_PER_SECOND
    choices = int((row["body"] or {}).get("n") or 1)
    tokens = int(row["prompt_tokens"]) + choices * (UNSEEN_TOKENS + int(row["max_tokens"] or 0))
    return tokens * NANOUSD_PER_TOKEN


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to; amounts in nano-USD."""

    budget_nanousd: int
    billed_nanousd: int
    """By the upstream's own books."""
    spent_nanousd: int | None
    """By the gateway's; None where it does not tell."""
    held_nanousd: int
    """With nothing in flight: phantom holds."""
    payable_nanousd: int
    """The most that may be charged for what reached the upstream and was not refused there."""
    calls: int
    """That reached the upstream and were not refused there."""
    charged: int
    """Calls that the gateway's books charge for; 0 where they do not tell."""
    in_phase: int
    refused: int
    forgotten: bool
    """The ledger lives in the process that ended, and says so: nothing else can be expected of it."""
    not_played: str | None = None
    """Why this outcome means nothing."""

    @property
    def overspend_nanousd(self) -> int:
        """Billed above the cap."""
        return max(0, self.billed_nanousd - self.budget_nanousd)

    @property
    def is_void(self) -> bool:
        """Whether its 0 means nothing."""
        return self.not_played is not None and not self.overspend_nanousd

    @property
    def unbooked_nanousd(self) -> int:
        """Billed and not booked: the next overspend."""
        return 0 if self.spent_nanousd is None else max(0, self.billed_nanousd - self.spent_nanousd)

    @property
    def unfair_nanousd(self) -> int:
        """Charged above what may be."""
        return max(0, (self.spent_nanousd or 0) - self.payable_nanousd)

    @property
    def surplus(self) -> int:
        """Calls that were charged and had never reached the upstream, or charged twice."""
        return max(0, self.charged - self.calls)

    def faults(self) -> dict[str, int | str]:
        """What is wrong, by its name: nothing, if all is well."""
        lost = {"overspend": self.overspend_nanousd, "unbooked": self.unbooked_nanousd}
        found: dict[str, int | str | None] = {
            "not played": self.not_played,
            **({} if self.forgotten else lost),
            "held": self.held_nanousd,
            "unfair": self.unfair_nanousd,
            "surplus": self.surplus,
        }
        return {name: value for name, value in found.items() if value}
