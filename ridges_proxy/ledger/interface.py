"""What every store of the books promises. One contract suite in `tests/contract` runs over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    RunClosedError,
    TooManyInFlightError,
)

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import (
        ClosedRuns,
        Hold,
        Kind,
        ReceiptPage,
        Run,
        RunPage,
        RunQuery,
        RunUsage,
        SweptSlice,
    )

CLOSINGS_KEPT = 1_000
"""The latest closings that can be asked for. A worker asks every second."""


class LedgerOpeningError(Exception):
    """The books cannot be opened; the text is for whoever has to mend it."""


def check_amounts(*amounts_nanousd: int) -> None:
    """Raise ValueError unless every amount is a whole number of nano-USD, and none is negative."""
    if not all(isinstance(amount, int) and amount >= 0 for amount in amounts_nanousd):
        raise ValueError("amounts are whole nano-USD and never negative")


def check_reservation(run: Run, requested_nanousd: int, minimum_nanousd: int) -> None:
    """Raise ValueError for a reservation that makes no sense."""
    check_amounts(run.budget_nanousd, requested_nanousd, minimum_nanousd)
    if minimum_nanousd > requested_nanousd:
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


def granted_nanousd(books: Books, run: Run, requested_nanousd: int, minimum_nanousd: int) -> int:
    """What may be held by these books: min(want, remaining), if that is at least the floor.

    Raises RunClosedError, TooManyInFlightError, BudgetExhaustedError or BudgetHeldError, in this order.
    """
    if books.closed:
        raise RunClosedError
    if run.most_in_flight is not None and books.in_flight >= run.most_in_flight:
        raise TooManyInFlightError
    unspent_nanousd = run.budget_nanousd - books.spent_nanousd
    if minimum_nanousd > unspent_nanousd:
        raise BudgetExhaustedError
    if minimum_nanousd > unspent_nanousd - books.held_nanousd:
        raise BudgetHeldError
    return max(0, min(requested_nanousd, unspent_nanousd - books.held_nanousd))


class Ledger(Protocol):
    """The books. Each verb is one atomic step; all raise LedgerUnavailableError when there is no answer.

    Amounts are whole nano-USD and never negative: ValueError.
    """

    def reserve(
        self, run: Run, kind: Kind, requested_nanousd: int, minimum_nanousd: int, expires_in_seconds: float
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

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        """The runs closed since the mark; none, and the mark of now, if it is None."""
        ...

    def sweep(self, limit: int) -> SweptSlice:
        """Look at up to `limit` runs: turn overdue holds into spend, forget runs idle past their TTL."""
        ...

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """Receipts of runs forgotten since then (seconds since the epoch): a page of them, from the mark.

        In no order that all stores share. `memory://` keeps none.
        """
        ...

    def maintain(self) -> None:
        """Do what a store has to do beside the calls. Once a second."""
        ...

    def count(self) -> int:
        """How many runs are known."""
        ...

    def ping(self) -> None:
        """Return if the ledger answers, and can be written to."""
        ...

    def disconnect(self) -> None:
        """Let go of the store, at once. Nothing may be asked of it after that."""
        ...
