"""The file of a SQLite ledger: how it is made, opened, brought to the present schema, and kept in shape."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.ledger.contract import LedgerOpeningError
from ridges_proxy.pauses import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLICATION_ID = 0x52414C31
""""RAL1", in the file's header: it tells our books from any other SQLite file."""

LOCK_TIMEOUT_SECONDS = 5.0
"""For the one write lock of the file. No step under it takes long; a wait like this means that something
is stuck, or that somebody holds the file open in a transaction."""

MODE = 0o600

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

MIGRATIONS = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        cap_nanousd INTEGER NOT NULL,
        inference_nanousd INTEGER NOT NULL,
        embedding_nanousd INTEGER NOT NULL,
        held_nanousd INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        in_flight INTEGER NOT NULL,
        active_at REAL NOT NULL,
        looked_at REAL NOT NULL,
        remembered_until REAL NOT NULL,
        closed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_by_looked_at ON runs (looked_at);
    CREATE TABLE holds (
        hold_id TEXT PRIMARY KEY,
        run_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount_nanousd INTEGER NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL,
        cap_nanousd INTEGER NOT NULL,
        inference_nanousd INTEGER NOT NULL,
        embedding_nanousd INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        active_at REAL NOT NULL,
        forgotten_at REAL NOT NULL,
        closed INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX receipts_by_forgotten_at ON receipts (forgotten_at);
    CREATE TABLE closings (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL,
        closed_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE totals (
        charged_nanousd INTEGER NOT NULL,
        reset_nanousd INTEGER NOT NULL,
        dropped_nanousd INTEGER NOT NULL
    ) STRICT;
    INSERT INTO totals VALUES (0, 0, 0);
    CREATE TABLE epoch (boot_id TEXT NOT NULL, offset_seconds REAL NOT NULL) STRICT;
    """,
)
"""What brings a file from each version of the schema to the next. Append; never change one that has shipped."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the ledger's file for reading and writing; make it, or bring it to the present schema.

    Raises LedgerOpeningError, worded for whoever has to mend it.
    """
    try:
        _make(path)
        connection = connect(path)
        _become_ours(connection, path)
    except OSError as error:
        raise LedgerOpeningError(f"cannot open {path}: {error.strerror}{_hint(path)}") from error
    except sqlite3.DatabaseError as error:
        raise LedgerOpeningError(f"cannot use {path} as a ledger: {error}") from error
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there already."""
    # No wait inside SQLite: it would stop all other calls of the process. `patiently` waits instead.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # `checkpoint` does it, off the hub
    connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
    return connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction that has the write lock from its beginning. Raises sqlite3.Error."""
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def patiently(step: Callable[[], object]) -> None:
    """Do what may find the file locked, again and again up to a limit, while other calls go on."""
    give_up_at = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            if not busy or time.monotonic() >= give_up_at:
                raise
        else:
            return
        pause()


def clock_of(connection: sqlite3.Connection) -> Callable[[], float]:
    """Seconds since the epoch that go on evenly, whatever is done to the system's clock, for all processes.

    The clock of the machine's boot, from where the epoch stood when the file was first opened after it.
    Where there is no such clock (outside Linux), the system's.
    """
    if not BOOT_ID.exists():
        return time.time
    boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    with writing(connection):
        row = connection.execute("SELECT boot_id, offset_seconds FROM epoch").fetchone()
        if row is None or row[0] != boot_id:
            (latest,) = connection.execute("SELECT MAX(looked_at) FROM runs").fetchone()
            offset = max(time.time(), latest or 0.0) - _seconds_since_boot()
            connection.execute("DELETE FROM epoch")
            connection.execute("INSERT INTO epoch VALUES (?, ?)", (boot_id, offset))
        else:
            offset = row[1]
    return lambda: offset + _seconds_since_boot()


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring what was written since the last one into the file proper, for good. Waits for the disk."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _make(path: Path) -> None:
    """Make an empty file that nobody else may read, or see to it that nobody else may read what is there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != MODE:
            os.fchmod(descriptor, MODE)
    finally:
        os.close(descriptor)


def _become_ours(connection: sqlite3.Connection, path: Path) -> None:
    patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    with writing(connection):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (tables or version):
            raise LedgerOpeningError(f"{path} is a SQLite file of something else")
        if version > len(MIGRATIONS):
            raise LedgerOpeningError(
                f"{path} was written by a newer version of this service (schema {version}, known up to"
                f" {len(MIGRATIONS)})"
            )
        for migration in MIGRATIONS[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _hint(path: Path) -> str:
    if path.parent.is_dir():
        return ""
    return f"; there is no folder {path.parent.absolute()} (an absolute path has four slashes: sqlite:////…)"


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
