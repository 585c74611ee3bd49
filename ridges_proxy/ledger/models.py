"""What the books are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(StrEnum):
    """What a call buys; both kinds draw on the one cap of their run."""

    INFERENCE = "inference"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Run:
    """Who spends, and up to what."""

    id: str
    budget_nanousd: int
    remember_seconds: float = 0.0
    """For how long from now the run must not be forgotten, whatever its TTL: a run token's life."""
    most_in_flight: int | None = None
    """How many of its holds may be open at a time; None: any number."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An amount set aside for one upstream attempt; it resolves exactly once."""

    id: str
    run_id: str
    kind: Kind
    amount_nanousd: int
    expires_at: float
    """Seconds on the ledger's own clock, after which an unresolved hold is spend."""


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The books of one run at one moment."""

    run_id: str
    budget_nanousd: int
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    """Calls charged; one that was released never was."""
    in_flight: int = 0
    idle_seconds: float = 0.0
    closed: bool = False

    @property
    def spent_nanousd(self) -> int:
        """Of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    @property
    def remaining_nanousd(self) -> int:
        """Cap - spent - held; 0 where a call cost more than its hold."""
        return max(0, self.budget_nanousd - self.spent_nanousd - self.held_nanousd)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The last books of a run that was forgotten."""

    run: RunUsage
    forgotten_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """Some receipts, and where to go on."""

    receipts: list[Receipt]
    next_cursor: str | None
    """None after the last page."""


@dataclass(frozen=True, slots=True)
class ClosedRuns:
    """The runs that were closed since a mark, by whatever process, and the mark to go on from."""

    run_ids: list[str]
    cursor: str


class SortKey(StrEnum):
    """By what a list of runs is ordered: amounts and calls largest first, the rest smallest first."""

    SPENT = "spent"
    HELD = "held"
    CALLS = "calls"
    IDLE = "idle"
    RUN_ID = "run_id"


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list."""

    search: str = ""
    """Part of the run's id, letter for letter."""
    min_spent_nanousd: int = 0
    in_flight: bool | None = None
    sort: SortKey = SortKey.SPENT
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list, and how many runs match in all."""

    runs: list[RunUsage]
    total: int


@dataclass(frozen=True, slots=True)
class SweptSlice:
    """What one slice of a sweep did."""

    receipts: list[RunUsage]
    """The last books of the runs that were forgotten."""
    overdue: list[Hold]
    """The holds that became spend: whoever was to settle them is gone."""
    more: bool
    """Whether another slice has work to do now."""


SORT_KEYS: dict[SortKey, Callable[[RunUsage], tuple[float, str]]] = {
    SortKey.SPENT: lambda usage: (-usage.spent_nanousd, usage.run_id),
    SortKey.HELD: lambda usage: (-usage.held_nanousd, usage.run_id),
    SortKey.CALLS: lambda usage: (-usage.calls, usage.run_id),
    SortKey.IDLE: lambda usage: (usage.idle_seconds, usage.run_id),
    SortKey.RUN_ID: lambda usage: (0, usage.run_id),
}
"""How a list of runs is ordered; ties by their ids."""
