"""A SQLite file of ours: how it is made, opened, brought to the present schema, and written to."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCK_TIMEOUT_SECONDS = 5.0
"""For the one write lock of the file. No step under it takes long; a wait like this means that something
is stuck, or that somebody holds the file open in a transaction."""

MODE = 0o600

PAGE_BYTES = 1024
"""A step changes a few rows, each in a page of its own, and writes whole pages: with SQLite's usual 4096, the
log grows four times as fast, and a call's two steps take a quarter longer (bench/stores.py)."""


CACHE_BYTES = 16 << 20
"""Of pages, at most, a process. With a million runs SQLite's usual 2 MiB hold too few of the index's: a
call's two steps took 1.7 times as long as with one run, and take 1.2 times (bench/stores.py)."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of file, and how they came about."""

    application_id: int
    """In the file's header: it tells our files from any other SQLite file."""
    migrations: tuple[str, ...]
    """What brings a file from each version to the next. Append; never change one that has shipped."""


def open_file(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a file for reading and writing; make it, or bring it to the present schema.

    Raises LedgerOpeningError.
    """
    with opening(path):
        _make(path)
        connection = connect(path)
        with closed_on_failure(connection):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is still empty
            patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            migrate(connection, schema, path)
    return connection


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside is a LedgerOpeningError, worded for whoever has to mend it."""
    try:
        yield
    except OSError as error:
        raise LedgerOpeningError(f"cannot open {path}: {error.strerror}{_hint(path)}") from error
    except sqlite3.DatabaseError as error:
        raise LedgerOpeningError(f"cannot use {path}: {error}") from error


@contextmanager
def closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection if what is inside fails.

    A connection that is not closed stays open until the garbage is collected, as it refers to itself. In a
    process that forks, its children would then take its locks on the file for their own, and have none:
    another process would think itself alone, and delete the log with what they have written.
    """
    try:
        yield
    except BaseException:
        connection.close()
        raise


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
    with closed_on_failure(connection):
        # A killed process loses nothing by it. Whoever reads the file first waits for who is just making it.
        patiently(lambda: connection.execute("PRAGMA synchronous = NORMAL"))
        connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES >> 10}")
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


def migrate(connection: sqlite3.Connection, schema: Schema, name: object) -> None:
    """Bring a file to the present schema. Raises LedgerOpeningError if it is not of this kind, or newer."""
    newest = len(schema.migrations)
    with writing(connection):  # not even a look without it: another process may be making the tables
        version = _version(connection, schema, name)
        if version == newest:
            return
        if version > newest:
            raise LedgerOpeningError(
                f"{name} was written by a newer version of this service: its schema is {version}, the newest"
                f" known here {newest}"
            )
        for migration in schema.migrations[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {newest}")


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring what was written since the last one into the file proper, for good. Waits for the disk."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _make(path: Path) -> None:
    """Make an empty file that nobody else may read, or see to it that nobody else may read what is there.

    What is there is not opened: to close it would end the locks of this process' other connections to it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) != MODE:
            path.chmod(MODE)


def _version(connection: sqlite3.Connection, schema: Schema, name: object) -> int:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if application_id != schema.application_id and (tables or version):
        raise LedgerOpeningError(f"{name} is a SQLite file of something else")
    return int(version)


def _hint(path: Path) -> str:
    if path.parent.is_dir():
        return ""
    return f"; there is no folder {path.parent.absolute()} (an absolute path has four slashes: sqlite:////…)"
