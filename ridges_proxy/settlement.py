"""What becomes of a hold: DESIGN's table of money, as one function of the facts. Pure.

    what happened                                            the hold is
    never reached the upstream, or it answered an error      released
    sent, and nothing came back                              settled at the hold: it may have been billed
    broken, timed out, cut, or the client hung up            settled at the bound of what was seen
    a whole answer                                           settled at the usage, or else at the bound

A bound never exceeds the hold; a usage may, and is charged in full all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ridges_proxy.pricing import Usage, seconds_cost_nanousd

if TYPE_CHECKING:
    from ridges_proxy.pricing import Price
    from ridges_proxy.upstream import Attempt


class Tariff(Protocol):
    """How a call's cost follows from what was seen of it; amounts in nano-USD."""

    def reported_nanousd(self, attempt: Attempt) -> int | None:
        """Return the cost by what the upstream reports, None if it reports nothing."""
        ...

    def bound_nanousd(self, attempt: Attempt) -> int:
        """Return the most that what was sent and received can cost."""
        ...


@dataclass(frozen=True, slots=True)
class TokenTariff:
    """By token: inference."""

    price: Price
    prompt_tokens: int
    """The bound of the prompt that was sent."""

    def reported_nanousd(self, attempt: Attempt) -> int | None:
        return None if attempt.usage is None else self.price.cost_nanousd(attempt.usage)

    def bound_nanousd(self, attempt: Attempt) -> int:
        return self.price.cost_nanousd(Usage(self.prompt_tokens, attempt.received_tokens))


@dataclass(frozen=True, slots=True)
class TimeTariff:
    """By the second that the upstream had the call: embedding. The time is ours to measure."""

    nanousd_per_second: int

    def reported_nanousd(self, attempt: Attempt) -> int | None:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)

    def bound_nanousd(self, attempt: Attempt) -> int:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)


def owed_nanousd(attempt: Attempt, tariff: Tariff, hold_nanousd: int) -> int | None:
    """What the attempt is to be settled at, or None if its hold is to be released."""
    if not attempt.sent or attempt.refused:
        return None
    if not attempt.answering:
        return hold_nanousd
    reported = tariff.reported_nanousd(attempt)
    if attempt.complete and reported is not None:
        return reported
    return min(max(tariff.bound_nanousd(attempt), reported or 0), hold_nanousd)
