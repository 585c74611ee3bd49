"""The amounts and numbers that the account of a run and that of a level have in common."""

from __future__ import annotations

from ridges_proxy.ledger.models import Kind


class Sums:
    """Base class of accounts, which declare these fields. Change one only in a step of the ledger."""

    inference_nanousd: int
    embedding_nanousd: int
    held_nanousd: int
    calls: int
    in_flight: int
    alerted_percent: int
    """The largest share of the amount for which an alert was made."""

    @property
    def spent_nanousd(self) -> int:
        """Cost of all calls, of both kinds."""
        return self.inference_nanousd + self.embedding_nanousd

    def add_hold(self, amount_nanousd: int) -> None:
        """Add an open hold."""
        self.held_nanousd += amount_nanousd
        self.in_flight += 1

    def remove_hold(self, kind: Kind, held_nanousd: int, cost_nanousd: int | None) -> None:
        """Remove an open hold. Charge the cost, or nothing if it is None."""
        self.held_nanousd -= held_nanousd
        self.in_flight -= 1
        if cost_nanousd is None:
            return
        self.calls += 1
        if kind is Kind.INFERENCE:
            self.inference_nanousd += cost_nanousd
        else:
            self.embedding_nanousd += cost_nanousd

    def reset_sums(self) -> None:
        """Set spent, calls and alerts to 0. Open holds stay."""
        self.inference_nanousd = self.embedding_nanousd = self.calls = self.alerted_percent = 0
