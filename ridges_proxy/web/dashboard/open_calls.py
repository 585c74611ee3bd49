"""The calls in flight on the dashboard's pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.runtime.iso_time import time_or_null
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.ledger import OpenCall

MAX_CALLS = 20
"""How many calls a page shows: those that have been in flight for the longest time."""


@dataclass(frozen=True, slots=True)
class OpenCallRow:
    """One call in a table."""

    call: OpenCall
    started_at: str | None
    """The time of its hold for a machine, in ISO 8601. None: it is not known."""


@dataclass(frozen=True, slots=True)
class OpenCallTable:
    """The oldest calls in flight."""

    rows: list[OpenCallRow]
    total: int
    """All calls in flight, of all servers that share the ledger."""

    @property
    def has_expired(self) -> bool:
        """Whether the hold of a row has expired."""
        return any(row.call.expired for row in self.rows)


def open_calls(run_id: str | None = None) -> OpenCallTable:
    """The calls in flight of one run, or of all."""
    page = services().ledger.open_calls(MAX_CALLS, run_id)
    return OpenCallTable(
        [OpenCallRow(call, time_or_null(call.started_at)) for call in page.calls], page.total
    )
