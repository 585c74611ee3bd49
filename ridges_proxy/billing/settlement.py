"""The settlement of a hold: the table of docs/concepts/holds.md as one function of a call's facts. Pure.

    what happened                                    the hold is
    upstream not reached, or it answered an error    released
    request sent, no answer began                    settled at the hold: it may be billed
    complete answer with a usage                     settled at the usage, even above the hold
    broke off, timed out, cut off, or client gone,
        after a usage in a chunk                     settled at it and at what may follow, up to the hold
        without a usage                              settled at the bound, up to the hold
    complete answer without a usage                  settled at the bound, up to the hold
    no usage, and tokens may not have been sent      settled at the hold
    not reached or an error, after other requests of
        the same call were answered                  settled at the time of those
    complete answer with a usage before its end,
        and tokens may not have been sent            settled at the hold, or at the usage if that is more

The usage counts at least the tokens that the answer proves. The bound is the maximum cost of what was sent
and received.
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
    def counted_usage(self) -> Usage | None:
        """The usage to be paid, by the upstream's last report. None if it reported none."""
        ...

    @property
    def usage_is_early(self) -> bool:
        """Whether more of the answer came after the reported usage."""
        ...

    @property
    def bound_tokens(self) -> int:
        """The maximum tokens of the completion, by what was received."""
        ...

    @property
    def may_have_unseen_tokens(self) -> bool:
        """Whether `bound_tokens` is no bound: more tokens may have been generated."""
        ...

    @property
    def seconds(self) -> float:
        """How long the upstream worked on the call."""
        ...

    @property
    def earlier_seconds(self) -> float:
        """How long it worked on those requests of the call that were answered, before the last request."""
        ...


class CallPricing(Protocol):
    """A way to compute the cost of a call from the facts of its attempt."""

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        """Return the cost by the reported usage, None if there is none."""
        ...

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        """Return the maximum cost of what was sent and received."""
        ...

    def earlier_nanousd(self, attempt: AttemptFacts) -> int | None:
        """Return the cost of the requests before the last one, None if there are none."""
        ...


def settlement_nanousd(attempt: AttemptFacts, pricing: CallPricing, hold_nanousd: int) -> int | None:
    """Return the cost to settle the hold at, or None to release it."""
    if not attempt.sent or attempt.refused:
        return pricing.earlier_nanousd(attempt)
    if not attempt.answering:
        return hold_nanousd
    reported_nanousd = pricing.reported_nanousd(attempt)
    if reported_nanousd is None and attempt.may_have_unseen_tokens:
        return hold_nanousd
    if reported_nanousd is None:
        return min(pricing.bound_nanousd(attempt), hold_nanousd)
    if not attempt.complete:
        return min(reported_nanousd, hold_nanousd)
    may_be_more = attempt.usage_is_early and attempt.may_have_unseen_tokens
    return max(reported_nanousd, hold_nanousd) if may_be_more else reported_nanousd
