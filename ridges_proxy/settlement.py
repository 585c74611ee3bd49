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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridges_proxy.terms import Tariff
    from ridges_proxy.upstream import Attempt


def owed_nanousd(attempt: Attempt, tariff: Tariff, hold_nanousd: int) -> int | None:
    """What the attempt is to be settled at, or None if its hold is to be released."""
    if not attempt.sent or attempt.refused:
        return None
    if not attempt.answering:
        return hold_nanousd
    reported = tariff.reported_nanousd(attempt)
    if not attempt.complete or reported is None:
        return min(max(tariff.bound_nanousd(attempt), reported or 0), hold_nanousd)
    if attempt.usage_refuted:
        return max(reported, min(tariff.bound_nanousd(attempt), hold_nanousd))
    return reported
