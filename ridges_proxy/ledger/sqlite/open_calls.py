"""Statements that read the open holds of a SQLite ledger as calls in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.ledger.open_calls import OpenCallPage, open_call
from ridges_proxy.ledger.sqlite import rows

if TYPE_CHECKING:
    import sqlite3

_ORDER = "ORDER BY substr(hold_id, 13, 1) = '7', hold_id"
"""That of `by_age`: the version of an id is its 13th digit."""


def page_of(connection: sqlite3.Connection, limit: int, run_id: str | None, now: float) -> OpenCallPage:
    """Return the oldest calls in flight, of one run or of all.

    It scans all open holds, one for each call in flight.
    """
    where = "" if run_id is None else "WHERE run_id = :run_id"
    bound = {"run_id": run_id, "limit": limit}
    (total,) = connection.execute(f"SELECT COUNT(*) FROM open_holds {where}", bound).fetchone()
    found = connection.execute(f"SELECT * FROM open_holds {where} {_ORDER} LIMIT :limit", bound)
    return OpenCallPage([open_call(hold, now) for hold in rows.holds_from(found)], total)
