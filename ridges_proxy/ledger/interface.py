"""The interface that every ledger implements. The tests in `tests/contract` check it on every store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from ridges_proxy.errors import (
    BudgetExhaustedError,
    RefusingBudget,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger.models import Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery
    from ridges_proxy.ledger.models import (
        Alert,
        BookedCallPage,
        CallRecord,
        ClosedRuns,
        Hold,
        Kind,
        LevelPage,
        LevelQuery,
        LevelUsage,
        ReceiptPage,
        Run,
        RunPage,
        RunQuery,
        RunUsage,
        SetAmount,
        SweptSlice,
        Ticket,
    )
    from ridges_proxy.ledger.open_calls import OpenCallPage

CLOSED_RUNS_KEPT = 1_000
"""Latest closed runs that `closed_runs_since` can return. Each worker asks once a second."""

DAY_SECONDS = 86_400


class LedgerOpeningError(Exception):
    """The ledger cannot be opened. The text tells the operator what to fix."""


def check_amounts(*amounts_nanousd: int) -> None:
    """Raise ValueError unless every amount is an integer in nano-USD, at least 0."""
    if not all(isinstance(amount, int) and amount >= 0 for amount in amounts_nanousd):
        raise ValueError("amounts must be integers in nano-USD, at least 0")


def check_reservation(run: Run, requested_nanousd: int, minimum_nanousd: int) -> None:
    """Raise ValueError if an amount of the reservation is invalid, or its minimum is above its request."""
    check_amounts(run.budget_nanousd, requested_nanousd, minimum_nanousd)
    if minimum_nanousd > requested_nanousd:
        raise ValueError("the minimum of a reservation must not exceed the requested amount")


class AccountState(Protocol):
    """The properties of a run that decide about a reservation."""

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        ...

    @property
    def held_nanousd(self) -> int:
        """Sum of the open holds."""
        ...

    @property
    def in_flight(self) -> int:
        """Number of open holds."""
        ...

    @property
    def closed(self) -> bool:
        """Whether new holds are refused."""
        ...


class LevelState(Protocol):
    """The properties of a level that decide about a reservation."""

    @property
    def level(self) -> Level:
        """The budget, its scope and its period."""
        ...

    @property
    def amount_nanousd(self) -> int:
        """The amount in force."""
        ...

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        ...

    @property
    def held_nanousd(self) -> int:
        """Sum of the open holds."""
        ...


NEXT = Turn()
"""The turn of a call before which no other waits."""


def granted_nanousd(  # noqa: PLR0913, PLR0917 - all that decides about a hold
    state: AccountState,
    run: Run,
    requested_nanousd: int,
    minimum_nanousd: int,
    turn: Turn = NEXT,
    levels: Sequence[LevelState] = (),
) -> int:
    """Return the amount to hold: min(requested, the smallest remaining), if that is at least the minimum.

    Raises RunClosedError, TooManyInFlightError, BudgetExhaustedError (of the run, then of a level) or
    RunBusyError. They are checked in this order. A call that waits already is not refused for the number of
    open holds: it waits for them too.
    """
    if state.closed:
        raise RunClosedError
    is_full = run.max_in_flight is not None and state.in_flight >= run.max_in_flight
    if is_full and not turn.waits:
        raise TooManyInFlightError
    unspent_nanousd = run.budget_nanousd - run.reserved_nanousd - state.spent_nanousd
    if minimum_nanousd > unspent_nanousd:
        raise BudgetExhaustedError
    remaining_nanousd = unspent_nanousd - state.held_nanousd
    if levels:
        remaining_nanousd = min(remaining_nanousd, _remaining_nanousd(levels, minimum_nanousd))
    if is_full or not turn.is_next or minimum_nanousd > remaining_nanousd:
        raise RunBusyError
    return max(0, min(requested_nanousd, remaining_nanousd))


def _remaining_nanousd(levels: Sequence[LevelState], minimum_nanousd: int) -> int:
    """Return the smallest amount that remains of a level.

    Raises BudgetExhaustedError for the level that refuses the call for the longest time, if one does.
    """
    remaining: list[int] = []
    used_up: list[Level] = []
    for state in levels:
        unspent_nanousd = state.amount_nanousd - state.spent_nanousd
        remaining.append(unspent_nanousd - state.held_nanousd)
        if minimum_nanousd > unspent_nanousd:
            used_up.append(state.level)
    if used_up:
        last = max(used_up, key=lambda level: math.inf if level.resets_at is None else level.resets_at)
        raise BudgetExhaustedError(RefusingBudget(last.budget, last.scope, last.window, last.resets_at))
    return min(remaining)


class Ledger(Protocol):
    """The accounts of all runs, in a store.

    Each change of a run is one atomic step. Amounts are integers in nano-USD, at least 0; other amounts raise
    ValueError. Every method except `disconnect` raises LedgerUnavailableError if the store does not answer.
    """

    def reserve(  # noqa: PLR0913, PLR0917 - all that decides about a hold
        self,
        run: Run,
        kind: Kind,
        requested_nanousd: int,
        minimum_nanousd: int,
        expires_in_seconds: float,
        ticket: Ticket | None = None,
        model: str = "",
    ) -> Hold:
        """Hold min(requested, remaining), if that is at least the minimum and no earlier call waits.

        The run and all its levels hold the same amount, or none of them holds anything. What remains is the
        smallest that remains of the run and of a level. Amounts that `set_amount` has set replace those of
        the levels.

        The run's budget is the one given here; it replaces the budget of earlier calls. A run that is not
        known becomes known; if it was finished when it was forgotten, it continues with what it has spent. A
        refusal changes nothing, except that it counts as activity of a known run, and replaces its budget.

        Raises RunClosedError, TooManyInFlightError, BudgetExhaustedError (minimum > budget - spent, in the
        run or in a level, which the error names) or RunBusyError (the minimum would fit without the open
        holds and the earlier calls that wait).

        With a ticket, RunBusyError puts the call into the queue of its run, or keeps it there. It must ask
        again at least every TICKET_SECONDS. Any other result takes it out of the queue.
        """
        ...

    def leave(self, ticket: Ticket) -> None:
        """Take a call that no longer waits out of the queue of its run."""
        ...

    def waiting(self, run_id: str) -> int:
        """Return the number of calls in the queue of the run that asked within the last TICKET_SECONDS."""
        ...

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        """Resolve the hold and charge the cost, in full even if it is above the hold.

        The levels are those of the reservation, also if their periods have ended. The call's record counts
        in the detail of the run.

        Returns the usage of the run afterwards. Returns None and changes nothing if the hold is not open:
        it was resolved before, or it expired and a sweep charged it.
        """
        ...

    def release(self, hold: Hold) -> RunUsage | None:
        """Resolve the hold and charge nothing. Returns the same as `settle`."""
        ...

    def usage(self, run_id: str) -> RunUsage | None:
        """Return the usage of the run, also of a finished one that was forgotten; None for all others."""
        ...

    def list(self, query: RunQuery) -> RunPage:
        """Return one page of the runs that match. Each row is exact, but rows may differ in their moment."""
        ...

    def reset(self, run_id: str) -> RunUsage | None:
        """Set spent and calls of the run to 0. Open holds stay open, and resolve as usual.

        Its levels keep what they have. Returns the usage before the reset; None if `usage` returns none. A
        finished run that was forgotten becomes known.
        """
        ...

    def close(self, run: Run) -> RunUsage:
        """Refuse new holds of the run, as long as the run or its receipt is kept.

        Open holds stay open, and resolve as usual. A run that is not known becomes known. Returns the usage
        afterwards.
        """
        ...

    def closed_runs_since(self, cursor: str | None) -> ClosedRuns:
        """Return the runs that any process has closed since the cursor, and the cursor of the next request.

        Without a cursor, return no runs and the cursor of this moment. At least the latest CLOSED_RUNS_KEPT
        runs are kept; a caller that waits longer may miss older ones.
        """
        ...

    def sweep(self, limit: int) -> SweptSlice:
        """Charge up to `limit` expired holds, and forget up to `limit` runs that were idle for their TTL.

        A run with an open hold is active, so it is not forgotten. Call it again while `more` is true.

        A run is finished if it is closed, or if its budget is used up: it is spent, or a reservation was
        refused as exhausted since the last reset. The receipt of a finished run remembers it. `memory://` has
        no receipts, and remembers a limited number of finished runs for the same time.
        """
        ...

    def history(self, since: float, cursor: str | None, limit: int) -> ReceiptPage:
        """Return one page of the receipts of runs that were forgotten at `since` (epoch seconds) or later.

        Without a cursor, it is the first page. The order depends on the store. `memory://` keeps no receipts.
        """
        ...

    def calls(self, since: float, cursor: str | None, limit: int) -> BookedCallPage:
        """Return one page of the calls that were charged at `since` (epoch seconds) or later.

        Without a cursor, it is the first page. The order depends on the store. A ledger keeps calls only with
        RECEIPT_CALLS, for as long as receipts; `memory://` keeps the last MAX_CALLS. The call of an expired
        hold has no ids and no tokens.
        """
        ...

    def open_calls(self, limit: int, run_id: str | None = None) -> OpenCallPage:
        """Return the `limit` oldest calls in flight, of one run or of all, and how many there are.

        They are the open holds of all servers that share the ledger. The order of those that began in the
        same millisecond depends on the store. Each row is exact, but rows may differ in their moment.
        """
        ...

    def levels(self, levels: Sequence[Level]) -> Sequence[LevelUsage]:
        """Return the usage of the levels, with the amounts in force; zeros for one without calls."""
        ...

    def list_levels(self, query: LevelQuery) -> LevelPage:
        """Return one page of the known levels, the most spent first."""
        ...

    def set_amount(self, budget: str, scope: str, amount_nanousd: int | None) -> None:
        """Set the amount of a budget from now on, in place of the one in BUDGETS. None: remove it again.

        An empty scope means every scope of the budget that has no amount of its own.
        """
        ...

    def set_amounts(self) -> Sequence[SetAmount]:
        """Return all amounts that `set_amount` has set, in the order of their budgets and scopes."""
        ...

    def reset_level(self, level: Level) -> LevelUsage | None:
        """Set spent and calls of a level to 0. Return its usage before; None if it is not known."""
        ...

    def claim_alerts(self, limit: int, lease_seconds: float) -> Sequence[Alert]:
        """Return the oldest alerts that no process has claimed, and hide them from all for the lease.

        The lease doubles with each claim of an alert (`lease_seconds_of`).
        """
        ...

    def drop_alert(self, alert_id: str) -> None:
        """Remove an alert: it is delivered, or given up."""
        ...

    def count_refusals(self, refusals: Mapping[str, Mapping[str, int]]) -> None:
        """Count refused calls: by run and by the code of the error. Unknown runs are left out."""
        ...

    def record_action(self, entry: AuditEntry) -> None:
        """Add an entry to the audit trail. An entry whose id is there already changes nothing.

        Entries are kept as long as receipts, and at least for the longest life of a run token. `memory://`
        keeps the last MAX_ENTRIES.
        """
        ...

    def audit_trail(self, query: AuditQuery) -> AuditPage:
        """Return one page of the audit trail, the newest entries first.

        Raises ValueError for a cursor that is not one.
        """
        ...

    def maintain(self) -> None:
        """Do the regular work of the store. Call it once a second.

        SQLite writes its log into the file, and checks that the file is still in its place. Redis releases
        holds whose reservation got no answer. `memory://` does nothing.
        """
        ...

    def count(self) -> int:
        """Return the number of known runs."""
        ...

    def ping(self) -> None:
        """Return if the store answers and accepts a write of the size of a reservation. Changes no run."""
        ...

    def disconnect(self) -> None:
        """Close all connections and files, without waiting. The ledger cannot be used afterwards."""
        ...
