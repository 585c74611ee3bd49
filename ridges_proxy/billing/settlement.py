"""What becomes of a hold: the table of docs/MONEY.md, as one function of the facts. Pure.

    what happened                                            the hold is
    never reached the upstream, or it answered an error      released
    sent, and nothing came back                              settled at the hold: it may have been billed
    broken, timed out, cut, or the client hung up            settled at the bound of what was seen
    a whole answer                                           settled at the usage, or else at the bound
    a whole answer, and a usage that it refutes              settled at the larger of the two

A bound never exceeds the hold; a usage may, and is charged in full all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ridges_proxy.billing.prices import Usage


class AttemptFacts(Protocol):
    """The facts about one attempt to call the upstream that decide what it costs."""

    @property
    def sent(self) -> bool:
        """Whether the first byte of the body was handed to a connected socket."""
        ...

    @property
    def refused(self) -> bool:
        """Whether the upstream answered with an error: it bills nothing then."""
        ...

    @property
    def answering(self) -> bool:
        """Whether a status of 200 came."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The latest usage that the upstream reported."""
        ...

    @property
    def usage_disproved(self) -> bool:
        """Whether the answer proves that the reported usage is too low."""
        ...

    @property
    def received_tokens(self) -> int:
        """The most tokens that the received text can count."""
        ...

    @property
    def seconds(self) -> float:
        """How long the upstream worked on the call."""
        ...


class CallPricing(Protocol):
    """How the cost of a call follows from its attempt; amounts in nano-USD."""

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        """Return the cost by what the upstream reports, None if it reports nothing."""
        ...

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        """Return the most that what was sent and received can cost."""
        ...


def settlement_nanousd(attempt: AttemptFacts, pricing: CallPricing, hold_nanousd: int) -> int | None:
    """What the attempt is to be settled at, or None if its hold is to be released."""
    if not attempt.sent or attempt.refused:
        return None
    if not attempt.answering:
        return hold_nanousd
    reported = pricing.reported_nanousd(attempt)
    if not attempt.complete or reported is None:
        return min(max(pricing.bound_nanousd(attempt), reported or 0), hold_nanousd)
    if attempt.usage_disproved:
        return max(reported, min(pricing.bound_nanousd(attempt), hold_nanousd))
    return reported
