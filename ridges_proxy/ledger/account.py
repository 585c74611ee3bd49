"""One run's books, and the rules by which they change: the same in every store that keeps them in Python."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.ledger.interface import granted_nanousd
from ridges_proxy.ledger.models import Kind, Run, RunUsage


@dataclass(slots=True)
class Account:
    """One run's books, changed in place: under the ledger's lock, or inside its transaction."""

    run_id: str
    budget_nanousd: int
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    in_flight: int = 0
    active_at: float = 0.0
    looked_at: float = 0.0
    """When a sweep last found it worth keeping, or began to know it: it looks at the oldest first."""
    remembered_until: float = 0.0
    closed: bool = False

    @property
    def spent_nanousd(self) -> int:
        """Of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    def touch(self, now: float) -> None:
        """Note activity."""
        self.active_at = now

    def hold(self, run: Run, requested_nanousd: int, minimum_nanousd: int, now: float) -> int:
        """Set aside what is granted, and return it. Raises as `granted_nanousd` does, and changes nothing."""
        granted = granted_nanousd(self, run, requested_nanousd, minimum_nanousd)
        self.budget_nanousd = run.budget_nanousd
        self._remember(now + run.remember_seconds)
        self.touch(now)
        self.held_nanousd += granted
        self.in_flight += 1
        return granted

    def resolve(self, kind: Kind, held_nanousd: int, cost_nanousd: int | None, now: float) -> None:
        """End a hold: charge the cost, or nothing if it is None."""
        self.held_nanousd -= held_nanousd
        self.in_flight -= 1
        self.touch(now)
        if cost_nanousd is None:
            return
        self.calls += 1
        if kind is Kind.INFERENCE:
            self.inference_nanousd += cost_nanousd
        else:
            self.embedding_nanousd += cost_nanousd

    def reset(self, now: float) -> None:
        """Forget spend and calls."""
        self.inference_nanousd = self.embedding_nanousd = self.calls = 0
        self.touch(now)

    def close(self, run: Run, now: float) -> None:
        """Let nothing more be held."""
        self.closed = True
        self._remember(now + run.remember_seconds)
        self.touch(now)

    def keeps(self, now: float, ttl_seconds: float) -> bool:
        """Whether the run must not be forgotten yet; then it need not be looked at again before its TTL.

        A call in flight is activity; a token that may still come is none.
        """
        if self.in_flight:
            self.touch(now)
        if now - self.active_at < ttl_seconds:
            self.looked_at = self.active_at
            return True
        if now < self.remembered_until:
            self.looked_at = now
            return True
        return False

    def usage(self, now: float) -> RunUsage:
        """The books as they are."""
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
        )

    def _remember(self, until: float) -> None:
        self.remembered_until = max(self.remembered_until, until)
