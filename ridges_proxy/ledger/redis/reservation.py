"""A reservation as the scripts of a Redis ledger take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import TICKET_SECONDS, Hold
from ridges_proxy.ledger.redis.rows import groups_text

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import Run, Ticket

MAX_EXACT = 2**53 - 1
"""Largest exact integer in Lua, whose numbers are doubles. Budgets are smaller: amounts may be cut to it."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """All that decides about a hold."""

    hold: Hold
    """The hold as it is wanted: its amount is the requested one."""
    run: Run
    minimum_nanousd: int
    expires_in_seconds: float
    ticket: Ticket | None

    def requested_of_levels(self) -> int:
        """Return the amount to ask the levels for before the run: no more than the run can hold."""
        most = min(self.hold.amount_nanousd, self.run.budget_nanousd - self.run.reserved_nanousd)
        return max(self.minimum_nanousd, most)

    def arguments(self) -> list[str | float]:
        """Return the arguments of `reserve.lua` up to the alerts."""
        run, hold = self.run, self.hold
        return [
            hold.id,
            run.id,
            hold.kind.value,
            run.budget_nanousd,
            hold.amount_nanousd,
            self.minimum_nanousd,
            self.expires_in_seconds,
            run.remember_seconds,
            "" if run.max_in_flight is None else run.max_in_flight,
            int(run.own_budget),
            "" if self.ticket is None else self.ticket.id,
            TICKET_SECONDS,
            run.reserved_nanousd,
            groups_text(run.groups),
            int(hold.nested),
            hold.model,
            int(run.has_token),
        ]
