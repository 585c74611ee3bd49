"""The account of one run, and the rules by which it changes. Memory and SQLite ledgers use it."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger.interface import granted_nanousd
from ridges_proxy.ledger.models import Kind, Run, RunUsage, Turn


@dataclass(slots=True)
class Account:
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

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    @property
    def finished(self) -> bool:
        """Whether the run is closed, or its budget is used up: it must not have its budget again."""
        return self.closed or self.exhausted or self.spent_nanousd >= self.budget_nanousd

    def record_activity(self, now: float) -> None:
        """Set the time of the last activity."""
        self.active_at = now

    def reserve(self, run: Run, requested_nanousd: int, minimum_nanousd: int, now: float, turn: Turn) -> int:
        """Add a hold of the granted amount, and return it.

        Raises the errors of `granted_nanousd`. Then only the budget and `exhausted` have changed.
        """
        self.budget_nanousd, self.own_budget = run.budget_nanousd, run.own_budget
        try:
            granted = granted_nanousd(self, run, requested_nanousd, minimum_nanousd, turn)
        except BudgetExhaustedError:
            self.exhausted = True
            raise
        self._remember(now + run.remember_seconds)
        self.record_activity(now)
        self.held_nanousd += granted
        self.in_flight += 1
        return granted

    def resolve(self, kind: Kind, held_nanousd: int, cost_nanousd: int | None, now: float) -> None:
        """Remove a hold. Charge the cost, or nothing if it is None."""
        self.held_nanousd -= held_nanousd
        self.in_flight -= 1
        self.record_activity(now)
        if cost_nanousd is None:
            return
        self.calls += 1
        if kind is Kind.INFERENCE:
            self.inference_nanousd += cost_nanousd
        else:
            self.embedding_nanousd += cost_nanousd

    def reset(self, now: float) -> None:
        """Set spent and calls to 0."""
        self.inference_nanousd = self.embedding_nanousd = self.calls = 0
        self.exhausted = False
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

    def usage(self, now: float) -> RunUsage:
        """Return the usage of the run as it is now."""
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
        )

    def _remember(self, until: float) -> None:
        self.remembered_until = max(self.remembered_until, until)
