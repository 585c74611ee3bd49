"""Data types of the ledger: runs, holds, usage and receipts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.run_state import RunState


TICKET_SECONDS = 5.0
"""A waiting call that did not ask for its hold for this time loses its place: its process has died."""


class Kind(StrEnum):
    """The kind of a call. Both kinds draw on the one budget of their run."""

    INFERENCE = "inference"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its caller names it: its id and its limits."""

    id: str
    budget_nanousd: int
    remember_seconds: float = 0.0
    """Time from now in which the run must not be forgotten, whatever its TTL: the life of its run token."""
    max_in_flight: int | None = None
    """Limit of open holds at a time; None: no limit."""
    own_budget: bool = False
    """Whether the budget is that of a run token. False: it is that of the settings."""
    reserved_nanousd: int = 0
    """Part of the budget that this call must leave, because it is kept for the run's final call."""
    has_token: bool = False
    """Whether a run token names the run."""
    groups: tuple[str, ...] = ()
    """The groups that its run token names."""
    levels: tuple[Level, ...] = ()
    """The budgets above the run on which this call draws."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An amount reserved for one upstream attempt. It is resolved exactly once."""

    id: str
    run_id: str
    kind: Kind
    amount_nanousd: int
    expires_at: float
    """Seconds on the ledger's clock. If the hold is still open then, the next sweep charges it in full."""
    model: str = ""
    nested: bool = False
    """Whether budgets above the run hold the amount, too."""


class CallRecord(NamedTuple):
    """The report of the upstream on a call that is settled."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    answer_id: str = ""
    """The upstream's id of the answer."""
    invocation_id: str = ""
    """The upstream's id of the request, from a header of its answer."""


class ModelCost(NamedTuple):
    """The sums of the calls of a run to one model, of one kind."""

    model: str
    kind: Kind
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class BookedCall:
    """One settled call in the books, for a comparison with the upstream's bill."""

    settled_at: float
    """Seconds since the epoch."""
    run_id: str
    hold_id: str
    model: str
    kind: Kind
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    answer_id: str = ""
    """As in `CallRecord`, and so is the next one."""
    invocation_id: str = ""


@dataclass(frozen=True, slots=True)
class BookedCallPage:
    """One page of booked calls."""

    calls: list[BookedCall]
    next_cursor: str | None
    """Start of the next page; None after the last page."""


@dataclass(frozen=True, slots=True)
class RunDetail:
    """The activity of a run, beside its amounts."""

    first_call_at: float | None = None
    """First reservation that was granted: seconds since the epoch."""
    last_call_at: float | None = None
    """Last reservation that was granted."""
    refused: dict[str, int] = field(default_factory=dict)
    """Refused calls by the code of their error."""
    costs: tuple[ModelCost, ...] = ()
    """Costs by model and kind, the largest first."""
    had_token: bool = False
    """Whether a run token named the run in any call that got a hold."""


class LevelUsage(NamedTuple):
    """The usage of one budget above the runs, in one period."""

    level: Level
    """With the amount in force."""
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    in_flight: int = 0

    @property
    def amount_nanousd(self) -> int:
        """The amount in force."""
        return self.level.amount_nanousd

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    @property
    def remaining_nanousd(self) -> int:
        """Amount - spent - held; 0 if that is negative."""
        return max(0, self.level.amount_nanousd - self.spent_nanousd - self.held_nanousd)


@dataclass(frozen=True, slots=True)
class LevelPage:
    """One page of levels."""

    levels: list[LevelUsage]
    total: int
    """Matching levels on all pages."""


@dataclass(frozen=True, slots=True)
class LevelQuery:
    """Filter and page of a list of levels, those with the most spent first."""

    budget: str | None = None
    """Name of the only budget. None: all."""
    search: str = ""
    """Part of the scope, case-sensitive, without wildcards."""
    current_at: float | None = None
    """Only periods that have not ended at this time, in seconds since the epoch. None: all that are kept."""
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class SetAmount:
    """An amount that an operator has set in place of the one in BUDGETS, until it is removed."""

    budget: str
    scope: str
    """Empty: every scope of the budget that has no amount of its own."""
    amount_nanousd: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has reached a share of its amount."""

    id: str
    at: float
    """Seconds since the epoch."""
    budget: str
    """Name of the budget; `run` for the budget of one run."""
    scope: str
    """As in `Level`; the run's id for the budget of one run."""
    period: str
    percent: int
    """The share that was reached. 100 also if a call was refused because what is left does not pay for it."""
    amount_nanousd: int
    spent_nanousd: int
    resets_at: float | None = None
    attempts: int = 0
    """Earlier claims for its delivery."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The identity of a call that may wait for its hold, in the queue of its run."""

    id: str
    run_id: str


class Turn(NamedTuple):
    """The position of a call in the queue of its run."""

    is_next: bool = True
    """Whether no earlier call of the run waits."""
    waits: bool = False
    """Whether the call is in the queue already."""


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The usage of one run at one moment."""

    run_id: str
    budget_nanousd: int
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    """Calls that were charged. A released call does not count."""
    in_flight: int = 0
    """Open holds."""
    idle_seconds: float = 0.0
    """Time since the last activity: a reservation, granted or refused, a resolution, a reset or a close."""
    closed: bool = False
    finished: bool = False
    """Whether the run is closed, its budget is spent, or a reservation was refused as exhausted since the
    last reset. Such a run continues with what it has spent if it calls again after it was forgotten."""
    own_budget: bool = False
    """Whether the budget of the last reservation was that of a run token, and not that of the settings."""
    groups: tuple[str, ...] = ()
    """The groups of the last reservation."""
    levels: tuple[LevelUsage, ...] = ()
    """After `settle` and `release`: the budgets above the run that held the amount, as they are now. Their
    amounts are those of their last reservation. Where a run is shown: those of the present periods."""
    detail: RunDetail | None = field(default=None, compare=False)
    """Only in the results of `usage`, `close` and in receipts, so comparisons leave it out."""

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    @property
    def remaining_nanousd(self) -> int:
        """Budget - spent - held; 0 if that is negative, as when a call cost more than its hold."""
        return max(0, self.budget_nanousd - self.spent_nanousd - self.held_nanousd)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The final usage of a run that was forgotten."""

    run: RunUsage
    forgotten_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """One page of receipts."""

    receipts: list[Receipt]
    next_cursor: str | None
    """Start of the next page; None after the last page."""


@dataclass(frozen=True, slots=True)
class ClosedRuns:
    """Runs that were closed since a cursor, by any process."""

    run_ids: list[str]
    """In the order in which they were closed."""
    cursor: str
    """Start of the next request."""


class SortKey(StrEnum):
    """Order of a list of runs: amounts and calls largest first, the others smallest first."""

    SPENT = "spent"
    HELD = "held"
    CALLS = "calls"
    IDLE = "idle"
    RUN_ID = "run_id"


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Filter, order and page of a list of runs."""

    search: str = ""
    """Part of the run id, case-sensitive, without wildcards."""
    min_spent_nanousd: int = 0
    in_flight: bool | None = None
    """True: only runs with open holds; False: only runs without; None: all."""
    state: RunState | None = None
    """Only runs in this state. None: all."""
    present_budget_nanousd: int | None = None
    """The budget of runs without one of their own, for their state. None: that of their last reservation."""
    sort: SortKey = SortKey.SPENT
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list of runs."""

    runs: list[RunUsage]
    total: int
    """Matching runs on all pages."""
    counts: Mapping[RunState | None, int]
    """Runs in each state that match the query in all but its state. None: in all states and in none."""


@dataclass(frozen=True, slots=True)
class SweptSlice:
    """Result of one slice of a sweep."""

    receipts: list[RunUsage]
    """Final usage of the runs that were forgotten."""
    expired: list[Hold]
    """Expired holds that were charged in full, because nothing had settled or released them in time."""
    more: bool
    """Whether there is work left for another slice now."""
    lost: list[str] = field(default_factory=list)
    """Ids of runs whose accounts the store has lost, for example a Redis that evicts keys."""


SORT_KEYS: dict[SortKey, Callable[[RunUsage], tuple[float, str]]] = {
    SortKey.SPENT: lambda usage: (-usage.spent_nanousd, usage.run_id),
    SortKey.HELD: lambda usage: (-usage.held_nanousd, usage.run_id),
    SortKey.CALLS: lambda usage: (-usage.calls, usage.run_id),
    SortKey.IDLE: lambda usage: (usage.idle_seconds, usage.run_id),
    SortKey.RUN_ID: lambda usage: (0, usage.run_id),
}
"""Sort function of each key. Equal rows are ordered by run id."""
