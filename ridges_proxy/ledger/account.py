"""One run's books in memory."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.ledger.contract import Kind, RunUsage


@dataclass(slots=True)
class Account:
    """One run's books, changed in place under the ledger's lock."""

    run_id: str
    cap_nanousd: int
    inference_nanousd: int = 0
    embedding_nanousd: int = 0
    held_nanousd: int = 0
    calls: int = 0
    in_flight: int = 0
    active_at: float = 0.0
    looked_at: float = 0.0
    """When it was last active, or last found to be worth keeping: the order in which accounts stand."""
    remembered_until: float = 0.0
    closed: bool = False

    def total_spent_nanousd(self) -> int:
        """Of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    def charge(self, kind: Kind, cost_nanousd: int) -> None:
        """Book the cost of one call."""
        if kind is Kind.INFERENCE:
            self.inference_nanousd += cost_nanousd
        else:
            self.embedding_nanousd += cost_nanousd
        self.calls += 1

    def remember(self, until: float) -> None:
        """Keep the run at least until then."""
        self.remembered_until = max(self.remembered_until, until)

    def reset(self) -> None:
        """Forget spend and calls."""
        self.inference_nanousd = self.embedding_nanousd = self.calls = 0

    def usage(self, now: float) -> RunUsage:
        """The books as they are."""
        return RunUsage(
            run_id=self.run_id,
            cap_nanousd=self.cap_nanousd,
            inference_nanousd=self.inference_nanousd,
            embedding_nanousd=self.embedding_nanousd,
            held_nanousd=self.held_nanousd,
            calls=self.calls,
            in_flight=self.in_flight,
            idle_seconds=max(0.0, now - self.active_at),
            closed=self.closed,
        )
