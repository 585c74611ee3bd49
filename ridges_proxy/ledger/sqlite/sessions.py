"""Operators' sessions in the ledger's SQLite file."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger.sessions import MAX_SESSIONS, Session
from ridges_proxy.ledger.sqlite import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS operator_sessions (
    id TEXT PRIMARY KEY, address TEXT NOT NULL, signed_in_at REAL NOT NULL, expires_at REAL NOT NULL
) STRICT
"""
"""No migration of the schema: earlier versions of the service ignore this table, so they can use the file."""

_OLDEST_FIRST = (
    "SELECT id, address, signed_in_at, expires_at FROM operator_sessions ORDER BY signed_in_at, id"
)


class SqliteSessions:
    """Implementation of `Sessions`. It opens the file for each use, because operators use it rarely."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Does not open the file yet: the ledger creates it."""
        self._path = path
        self._clock = clock

    def add(self, session: Session) -> None:
        row = (session.id, session.address, session.signed_in_at, session.expires_at)
        with self._open() as connection, database.writing(connection):
            connection.execute("DELETE FROM operator_sessions WHERE expires_at <= ?", (self._clock(),))
            connection.execute("INSERT INTO operator_sessions VALUES (?, ?, ?, ?)", row)
            connection.execute(
                "DELETE FROM operator_sessions WHERE id NOT IN"
                " (SELECT id FROM operator_sessions ORDER BY signed_in_at DESC LIMIT ?)",
                (MAX_SESSIONS,),
            )

    def has(self, session_id: str) -> bool:
        with self._open() as connection:
            query = "SELECT 1 FROM operator_sessions WHERE id = ? AND expires_at > ?"
            return connection.execute(query, (session_id, self._clock())).fetchone() is not None

    def valid(self) -> list[Session]:
        with self._open() as connection:
            sessions = [Session(*row) for row in connection.execute(_OLDEST_FIRST)]
        now = self._clock()
        return [session for session in sessions if now < session.expires_at]

    def end(self, session_id: str) -> bool:
        with self._open() as connection, database.writing(connection):
            delete = "DELETE FROM operator_sessions WHERE id = ? RETURNING expires_at"
            row = connection.execute(delete, (session_id,)).fetchone()
            return row is not None and self._clock() < row[0]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(database.connect(self._path)) as connection:
                database.retry_while_locked(lambda: connection.execute(_TABLE))
                yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailableError from error
