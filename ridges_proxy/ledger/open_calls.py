"""Calls in flight, as a ledger knows them: by their open holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.ledger.hold_id import started_at

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import Hold, Kind


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call in flight: one attempt at the upstream, with what is held for it."""

    run_id: str
    model: str
    """Empty for a hold of version 0.2.0 or before."""
    kind: Kind
    held_nanousd: int
    started_at: float | None
    """When the hold was made: seconds since the epoch, by the clock of the server that made it. None for a
    hold of version 0.2.0 or before."""
    age_seconds: float | None
    """Time since then on the ledger's clock, which may differ from the server's. None as above."""
    expires_at: float
    """Seconds on the ledger's clock."""
    expired: bool
    """Whether that time has come: the next sweep charges the hold, unless its call ends before that."""
    nested: bool
    """Whether budgets above the run hold the amount, too."""


@dataclass(frozen=True, slots=True)
class OpenCallPage:
    """The calls that have been in flight for the longest time."""

    calls: list[OpenCall]
    """The oldest first."""
    total: int
    """All calls in flight."""


def open_call(hold: Hold, now: float) -> OpenCall:
    """Return the call of an open hold. `now` is the time on the ledger's clock."""
    started = started_at(hold.id)
    return OpenCall(
        run_id=hold.run_id,
        model=hold.model,
        kind=hold.kind,
        held_nanousd=hold.amount_nanousd,
        started_at=started,
        age_seconds=None if started is None else max(0.0, now - started),
        expires_at=hold.expires_at,
        expired=hold.expires_at <= now,
        nested=hold.nested,
    )


def by_age(hold_id: str) -> tuple[bool, str]:
    """Return the sort key that puts the oldest hold first. Those without a time are of an earlier version."""
    return started_at(hold_id) is not None, hold_id
