"""What every store of the books promises. One contract suite in `tests/contract` runs over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    RunClosedError,
    TooManyInFlightError,
)


class Kind(StrEnum):
    """What a call buys; both kinds draw on the one cap of their run."""

    INFERENCE = "inference"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Run:
    """Who spends, and up to what."""

    id: str
    cap_nanousd: int
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
    cap_nanousd: int
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
        return max(0, self.cap_nanousd - self.spent_nanousd - self.held_nanousd)


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


def check_amounts(*amounts_nanousd: int) -> None:
    """Raise ValueError unless every amount is a whole number of nano-USD, and none is negative."""
    if not all(isinstance(amount, int) and amount >= 0 for amount in amounts_nanousd):
        raise ValueError("amounts are whole nano-USD and never negative")


def check_reservation(run: Run, want_nanousd: int, floor_nanousd: int) -> None:
    """Raise ValueError for a reservation that makes no sense."""
    check_amounts(run.cap_nanousd, want_nanousd, floor_nanousd)
    if floor_nanousd > want_nanousd:
        raise ValueError("a reservation's floor is at most what it wants")


class Books(Protocol):
    """What a decision about a run needs to know of it."""

    @property
    def spent_nanousd(self) -> int:
        """Of both kinds."""
        ...

    @property
    def held_nanousd(self) -> int:
        """In open holds."""
        ...

    @property
    def in_flight(self) -> int:
        """How many holds are open."""
        ...

    @property
    def closed(self) -> bool:
        """Whether nothing more may be held."""
        ...


def granted_nanousd(books: Books, run: Run, want_nanousd: int, floor_nanousd: int) -> int:
    """What may be held by these books: min(want, remaining), if that is at least the floor.

    Raises RunClosedError, TooManyInFlightError, BudgetExhaustedError or BudgetHeldError, in this order.
    """
    if books.closed:
        raise RunClosedError
    if run.most_in_flight is not None and books.in_flight >= run.most_in_flight:
        raise TooManyInFlightError
    unspent_nanousd = run.cap_nanousd - books.spent_nanousd
    if floor_nanousd > unspent_nanousd:
        raise BudgetExhaustedError
    if floor_nanousd > unspent_nanousd - books.held_nanousd:
        raise BudgetHeldError
    return max(0, min(want_nanousd, unspent_nanousd - books.held_nanousd))


class Ledger(Protocol):
    """The books. Each verb is one atomic step; all raise LedgerUnavailableError when there is no answer.

    Amounts are whole nano-USD and never negative: ValueError.
    """

    def reserve(
        self, run: Run, kind: Kind, want_nanousd: int, floor_nanousd: int, expires_in_seconds: float
    ) -> Hold:
        """Hold min(want, remaining) if that is at least the floor.

        Raises RunClosedError, TooManyInFlightError, BudgetExhaustedError (floor > cap - spent) or
        BudgetHeldError (it would fit without the other holds). A refusal changes nothing, but counts as
        activity of a run already known.
        """
        ...

    def settle(self, hold: Hold, cost_nanousd: int) -> RunUsage | None:
        """Turn the hold into spend of the cost, in full even above the hold.

        Returns the run's books after it, or None if the hold had been resolved before: then nothing
        changes.
        """
        ...

    def release(self, hold: Hold) -> RunUsage | None:
        """Give the hold back. Returns as settle does."""
        ...

    def usage(self, run_id: str) -> RunUsage | None:
        """The run's books, None for a run not seen (or forgotten)."""
        ...

    def list(self, query: RunQuery) -> RunPage:
        """The runs that match; of one moment each, not all of the same moment."""
        ...

    def reset(self, run_id: str) -> RunUsage | None:
        """Set spend and calls to zero; holds stay and resolve as ever. Returns the books before it."""
        ...

    def close(self, run: Run) -> RunUsage:
        """Reserve nothing more for the run, until it is forgotten; holds stay and resolve as ever.

        A run not seen becomes known by it. Returns the books after it.
        """
        ...

    def sweep(self, limit: int) -> SweptSlice:
        """Look at up to `limit` runs: turn overdue holds into spend, forget runs idle past their TTL."""
        ...

    def ping(self) -> None:
        """Return if the ledger answers."""
        ...
