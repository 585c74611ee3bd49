"""The queue of each run: its calls that wait for a hold. Each function runs inside a caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import TICKET_SECONDS, Turn

if TYPE_CHECKING:
    import sqlite3

    from ridges_proxy.ledger.models import Ticket

_FIRST = "SELECT place, ticket, seen_at FROM waiting WHERE run_id = ? ORDER BY place LIMIT 1"
_COUNT = "SELECT COUNT(*) FROM waiting WHERE run_id = ? AND seen_at > ?"
_ENTER = (
    "INSERT INTO waiting (run_id, ticket, seen_at) VALUES (?, ?, ?)"
    " ON CONFLICT (ticket) DO UPDATE SET seen_at = excluded.seen_at RETURNING place"
)


def turn(connection: sqlite3.Connection, run_id: str, ticket: Ticket | None, now: float) -> Turn:
    """Return the position of a call in the queue of its run. Removes calls that have disappeared."""
    while first := connection.execute(_FIRST, (run_id,)).fetchone():
        place, first_ticket, seen_at = first
        if seen_at > now - TICKET_SECONDS:
            break
        connection.execute("DELETE FROM waiting WHERE place = ?", (place,))
    else:
        return Turn()
    if ticket is None:
        return Turn(is_next=False)
    own = connection.execute("SELECT 1 FROM waiting WHERE ticket = ?", (ticket.id,)).fetchone()
    return Turn(is_next=first_ticket == ticket.id, waits=own is not None)


def enter(connection: sqlite3.Connection, ticket: Ticket, now: float) -> int:
    """Add a call to the end of the queue, or record that it still waits. Return its place."""
    (place,) = connection.execute(_ENTER, (ticket.run_id, ticket.id, now)).fetchone()
    return int(place)


def leave(connection: sqlite3.Connection, ticket: Ticket) -> None:
    """Remove a call from the queue, if it is there."""
    connection.execute("DELETE FROM waiting WHERE ticket = ?", (ticket.id,))


def waiting(connection: sqlite3.Connection, run_id: str, now: float) -> int:
    """Return the number of calls in the queue, without those that have disappeared."""
    found = connection.execute(_COUNT, (run_id, now - TICKET_SECONDS))
    return int(found.fetchone()[0])


def remove_unseen(connection: sqlite3.Connection, now: float) -> None:
    """Remove the calls of all runs that have disappeared."""
    connection.execute("DELETE FROM waiting WHERE seen_at <= ?", (now - TICKET_SECONDS,))
