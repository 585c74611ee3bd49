"""The audit trail of a SQLite ledger. Inside a transaction of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.ledger.audit_entries import AuditEntry, AuditPage, AuditQuery, page_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_COLUMNS = "id, at, actor, address, action, subject, request_id, detail, valid_until"
_INSERT = f"INSERT OR IGNORE INTO audit_entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PAGE = f"""
    SELECT {_COLUMNS} FROM audit_entries
    WHERE (at, id) < (?1, ?2) AND at >= ?3 AND (?4 IS NULL OR action = ?4) AND instr(subject, ?5) > 0
        AND (?6 IS NULL OR valid_until > ?6)
    ORDER BY at DESC, id DESC LIMIT ?7
"""


def put(connection: sqlite3.Connection, entries: Iterable[AuditEntry]) -> None:
    """Insert those of the entries that are not yet there."""
    connection.executemany(_INSERT, map(_row_of, entries))


def take(connection: sqlite3.Connection, entries: Iterable[AuditEntry]) -> None:
    """Delete these entries."""
    connection.executemany("DELETE FROM audit_entries WHERE id = ?", [(entry.id,) for entry in entries])


def page(connection: sqlite3.Connection, query: AuditQuery) -> AuditPage:
    """Return one page. Raises ValueError for a cursor that is not one."""
    bound = (*query.start, query.since, query.action, query.search, query.valid_at, query.limit + 1)
    return page_of([_entry_of(*row) for row in connection.execute(_PAGE, bound)], query.limit)


def drop_old(connection: sqlite3.Connection, kept_since: float, limit: int) -> bool:
    """Delete up to `limit` entries of this time or before. Return whether the limit was reached."""
    old = "SELECT id FROM audit_entries WHERE at <= ? ORDER BY at LIMIT ?"
    deleted = connection.execute(f"DELETE FROM audit_entries WHERE id IN ({old})", (kept_since, limit))
    return deleted.rowcount == limit


def _row_of(entry: AuditEntry) -> tuple[object, ...]:
    who = entry.actor, entry.address
    detail = orjson.dumps(entry.detail).decode()
    about = str(entry.action), entry.subject, entry.request_id
    return entry.id, entry.at, *who, *about, detail, entry.valid_until


def _entry_of(*row: Any) -> AuditEntry:  # noqa: ANN401 - the columns of a row
    fields: list[Any] = [*row[:-2], orjson.loads(row[-2]), row[-1]]
    return AuditEntry(*fields)
