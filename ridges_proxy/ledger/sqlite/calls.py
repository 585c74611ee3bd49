"""The single calls of a SQLite ledger. Inside a transaction of the caller."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.models import BookedCall, BookedCallPage, Kind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_FIELDS = (
    *("settled_at", "run_id", "hold_id", "model", "kind"),
    *("prompt_tokens", "completion_tokens", "cost_nanousd", "answer_id", "invocation_id"),
)
_COLUMNS = ", ".join(_FIELDS)
_values = attrgetter(*_FIELDS)

_INSERT = f"INSERT INTO calls ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"
_PAGE = f"""
    SELECT number, {_COLUMNS} FROM calls WHERE (settled_at, number) > (?, ?)
    ORDER BY settled_at, number LIMIT ?
"""
_SAME = "settled_at = ? AND hold_id = ?"
_OLD = "SELECT number FROM calls WHERE settled_at <= ? ORDER BY settled_at LIMIT ?"


def insert(connection: sqlite3.Connection, call: BookedCall) -> None:
    """Insert a call."""
    connection.execute(_INSERT, _values(call))


def page(connection: sqlite3.Connection, since: float, cursor: str | None, limit: int) -> BookedCallPage:
    """Return one page of the calls since a time, oldest first. The cursor is the last call of a page.

    Raises ValueError for another cursor.
    """
    settled_at, _, number = (cursor or f"{since!r}:0").partition(":")
    rows = connection.execute(_PAGE, (float(settled_at), int(number), limit)).fetchall()
    return BookedCallPage(
        [_call_of(*row[1:]) for row in rows], f"{rows[-1][1]!r}:{rows[-1][0]}" if len(rows) == limit else None
    )


def put(connection: sqlite3.Connection, calls: Iterable[BookedCall]) -> None:
    """Insert those of the calls that are not yet there."""
    for call in calls:
        key = (call.settled_at, call.hold_id)
        if connection.execute(f"SELECT 1 FROM calls WHERE {_SAME}", key).fetchone() is None:
            insert(connection, call)


def take(connection: sqlite3.Connection, calls: Iterable[BookedCall]) -> None:
    """Delete these calls."""
    keys = [(call.settled_at, call.hold_id) for call in calls]
    connection.executemany(f"DELETE FROM calls WHERE {_SAME}", keys)


def drop_old(connection: sqlite3.Connection, kept_since: float, limit: int) -> bool:
    """Delete up to `limit` calls of this time or before. Return whether the limit was reached."""
    old = connection.execute(_OLD, (kept_since, limit)).fetchall()
    connection.executemany("DELETE FROM calls WHERE number = ?", old)
    return len(old) == limit


def _call_of(settled_at: float, run_id: str, hold_id: str, model: str, kind: str, *rest: Any) -> BookedCall:  # noqa: ANN401 - a row's other columns
    return BookedCall(settled_at, run_id, hold_id, model, Kind(kind), *rest)
