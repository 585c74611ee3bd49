"""The settlement of a hold: the table of docs/MONEY.md as one function of a call's facts. Pure.

    what happened                                    the hold is
    upstream not reached, or it answered an error    released
    request sent, no answer began                    settled at the hold: it may be billed
    broke off, timed out, cut off, or client gone    settled at the larger of usage and bound, up to the hold
    complete answer with a usage                     settled at the usage, even above the hold
    complete answer that disproves its usage         settled at the larger of usage and bound
    complete answer without a usage                  settled at the bound

The bound is the maximum cost of what was sent and received, at most the hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Usage


class AttemptFacts(Protocol):
    """The facts about one attempt to call the upstream that decide its cost."""

    @property
    def sent(self) -> bool:
        """Whether the first byte of the body was handed to a connected socket."""
        ...

    @property
    def refused(self) -> bool:
        """Whether the upstream answered an error status, for which it bills nothing."""
        ...

    @property
    def answering(self) -> bool:
        """Whether the upstream answered with status 200."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The last usage that the upstream reported."""
        ...

    @property
    def usage_disproved(self) -> bool:
        """Whether the answer proves that the reported usage is too low."""
        ...

    @property
    def received_tokens(self) -> int:
        """The maximum tokens of the received text."""
        ...

    @property
    def seconds(self) -> float:
        """How long the upstream worked on the call."""
        ...


class CallPricing(Protocol):
    """A way to compute the cost of a call from the facts of its attempt."""

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        """Return the cost of the reported usage, None if there is none."""
        ...

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        """Return the maximum cost of what was sent and received."""
        ...


def settlement_nanousd(attempt: AttemptFacts, pricing: CallPricing, hold_nanousd: int) -> int | None:
    """Return the cost to settle the hold at, or None to release it."""
    if not attempt.sent or attempt.refused:
        return None
    if not attempt.answering:
        return hold_nanousd
    reported_nanousd = pricing.reported_nanousd(attempt)
    if not attempt.complete or reported_nanousd is None:
        return min(max(pricing.bound_nanousd(attempt), reported_nanousd or 0), hold_nanousd)
    if attempt.usage_disproved:
        return max(reported_nanousd, min(pricing.bound_nanousd(attempt), hold_nanousd))
    return reported_nanousd
