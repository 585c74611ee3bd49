"""The account of one run, and the rules by which it changes. Memory and SQLite ledgers use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger.interface import granted_nanousd
from ridges_proxy.ledger.models import RunUsage
from ridges_proxy.ledger.run_record import RunRecord
from ridges_proxy.ledger.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.ledger.interface import LevelState
    from ridges_proxy.ledger.models import CallRecord, Hold, LevelUsage, Run, Turn


@dataclass(slots=True)
class Account(Sums):
    """The account of one run. Change it only under the ledger's lock, or in a transaction.

    Times are seconds on the ledger's clock.
    """

    run_id: str
    budget_nanousd: int
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    in_flight: int = 0
    active_at: float = 0.0
    """Time of the last activity."""
    looked_at: float = 0.0
    """Position in the queue of the sweep, which examines the smallest first."""
    remembered_until: float = 0.0
    closed: bool = False
    exhausted: bool = False
    """Whether a reservation was refused as exhausted since the last reset. That refusal is final."""
    own_budget: bool = False
    alerted_percent: int = 0
    record: RunRecord = field(default_factory=RunRecord)

    @property
    def finished(self) -> bool:
        """Whether the run is closed, or its budget is used up: it must not have its budget again."""
        return self.closed or self.exhausted or self.spent_nanousd >= self.budget_nanousd

    def record_activity(self, now: float) -> None:
        """Set the time of the last activity."""
        self.active_at = now

    def reserve(  # noqa: PLR0913, PLR0917 - all that decides about a hold
        self,
        run: Run,
        requested_nanousd: int,
        minimum_nanousd: int,
        now: float,
        turn: Turn,
        levels: Sequence[LevelState] = (),
    ) -> int:
        """Add a hold of the granted amount, and return it. The caller adds it to the levels.

        Raises the errors of `granted_nanousd`. Then only the budget and `exhausted` have changed.
        """
        self.budget_nanousd, self.own_budget = run.budget_nanousd, run.own_budget
        try:
            granted = granted_nanousd(self, run, requested_nanousd, minimum_nanousd, turn, levels)
        except BudgetExhaustedError as refusal:
            self.exhausted |= refusal.is_of_run
            raise
        self._remember(now + run.remember_seconds)
        self.record_activity(now)
        self.record.add_call(run, now)
        self.add_hold(granted)
        return granted

    def resolve(
        self, hold: Hold, cost_nanousd: int | None, now: float, call: CallRecord | None = None
    ) -> None:
        """Remove a hold. Charge the cost, or nothing if it is None."""
        self.remove_hold(hold.kind, hold.amount_nanousd, cost_nanousd)
        self.record_activity(now)
        if cost_nanousd is not None:
            self.record.add_cost(hold.model, hold.kind, cost_nanousd, call)

    def reset(self, now: float) -> None:
        """Set spent and calls to 0."""
        self.reset_sums()
        self.exhausted = False
        self.record.reset()
        self.record_activity(now)

    def close(self, run: Run, now: float) -> None:
        """Refuse new holds from now on."""
        self.closed = True
        self._remember(now + run.remember_seconds)
        self.record_activity(now)

    def keep_if_needed(self, now: float, ttl_seconds: float) -> bool:
        """Return whether the run must be kept, and if so, set its new position in the sweep's queue.

        An open hold counts as activity. A run token that is still valid keeps the run, but is no activity.
        """
        if self.in_flight:
            self.record_activity(now)
        if now - self.active_at < ttl_seconds:
            self.looked_at = self.active_at
            return True
        if now < self.remembered_until:
            self.looked_at = now
            return True
        return False

    def usage(self, now: float, *, detailed: bool = False, levels: tuple[LevelUsage, ...] = ()) -> RunUsage:
        """Return the usage of the run and these levels as they are now, with its detail if that is wanted."""
        return RunUsage(
            run_id=self.run_id,
            budget_nanousd=self.budget_nanousd,
            inference_nanousd=self.inference_nanousd,
            embedding_nanousd=self.embedding_nanousd,
            held_nanousd=self.held_nanousd,
            calls=self.calls,
            in_flight=self.in_flight,
            idle_seconds=max(0.0, now - self.active_at),
            closed=self.closed,
            finished=self.finished,
            own_budget=self.own_budget,
            groups=self.record.groups,
            levels=levels,
            detail=self.record.detail() if detailed else None,
        )

    def _remember(self, until: float) -> None:
        self.remembered_until = max(self.remembered_until, until)
