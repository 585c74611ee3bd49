"""SQLite files of this service: creation, opening, schema migration, transactions."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ridges_proxy.ledger.interface import LedgerOpeningError
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS = 5.0
"""Limit of the wait for the file's write lock. No transaction of this service takes long, so a longer wait
means a deadlock, or another program with an open transaction."""

MODE = 0o600

PAGE_BYTES = 1024
"""SQLite writes whole pages, and a transaction changes a few rows, each on another page. With the default of
4096 bytes, the log grows four times as fast, and reserve + settle take 25 % longer (bench/stores.py)."""

CACHE_BYTES = 16 << 20
"""Limit of a connection's page cache. With a million runs, the default of 2 MiB is too small for the index:
reserve + settle took 1.7 times as long as with one run, and take 1.2 times now (bench/stores.py)."""


PROBE_PAGES = 16
"""Pages that `check_space` writes. A reservation writes 3, and a few more when pages of its trees split. On a
full disk, the log often has room for one page, but not for a reservation."""

_PROBE_CACHE_PAGES = 10
"""Page cache of `check_space`: SQLite writes further pages to the log before the transaction ends."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of one kind of file, as migrations from version to version."""

    application_id: int
    """Number in the file's header. It distinguishes files of this service from other SQLite files."""
    migrations: tuple[str, ...]
    """Statements that bring a file from one version to the next. Append only: never change a released one."""


def open_file(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a file for reading and writing. Create it, or migrate it to the current schema, if needed.

    Raises LedgerOpeningError.
    """
    with opening(path):
        _create(path)
        connection = connect(path)
        with closed_on_failure(connection):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # effective only while the file is empty
            retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            migrate(connection, schema, path)
    return connection


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Turn errors of the system and of SQLite into LedgerOpeningError, with a text for operators."""
    try:
        yield
    except OSError as error:
        raise LedgerOpeningError(f"cannot open {path}: {error.strerror}{_hint(path)}") from error
    except sqlite3.DatabaseError as error:
        raise LedgerOpeningError(f"cannot use {path}: {error}") from error


@contextmanager
def closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection if the block fails.

    Without this, the connection stays open until the next garbage collection, because it is part of a
    reference cycle. If the process forks before that, the children believe that they hold the parent's locks
    on the file, but they do not. Another process then sees no lock, and deletes the log with their writes.
    """
    try:
        yield
    except BaseException:
        connection.close()
        raise


def connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file."""
    # timeout=0: a wait inside SQLite would block all greenlets. `retry_while_locked` waits instead.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    with closed_on_failure(connection):
        # NORMAL loses nothing if the process is killed. Another process may be creating the file just now.
        retry_while_locked(lambda: connection.execute("PRAGMA synchronous = NORMAL"))
        connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES >> 10}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # `checkpoint` does it, in a thread
        connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
    return connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction that takes the write lock at its beginning. Raises sqlite3.Error."""
    retry_while_locked(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def write_together(
    connection: sqlite3.Connection, steps: Sequence[Callable[[sqlite3.Connection], T]]
) -> list[T | Exception]:
    """Run the steps in one transaction, because a commit takes longer than a step. Return their results.

    If a step or the commit fails, nothing stays, and each step runs again in a transaction of its own. So no
    step suffers from the error of another, and a step must be one that can be repeated. An error is returned
    in place of a result. If the file stays locked, that is the error of all steps that were not committed.
    """
    try:
        with writing(connection):
            return [step(connection) for step in steps]
    except Exception as error:  # noqa: BLE001 - its caller raises it
        if len(steps) == 1 or _is_locked(error):
            return [error] * len(steps)
    outcomes: list[T | Exception] = []
    for place, step in enumerate(steps):
        outcomes += write_together(connection, [step])
        if _is_locked(outcomes[-1]):  # do not wait again for each of the others
            return [*outcomes, *[outcomes[-1]] * (len(steps) - place - 1)]
    return outcomes


def retry_while_locked(step: Callable[[], object]) -> None:
    """Repeat the step while the file is locked, up to LOCK_TIMEOUT_SECONDS. Other greenlets run meanwhile."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() >= deadline:
                raise
        else:
            return
        pause()


def _is_locked(error: object) -> bool:
    """Whether it is the error that another connection has locked the file."""
    code = error.sqlite_errorcode & 0xFF if isinstance(error, sqlite3.OperationalError) else None
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def migrate(connection: sqlite3.Connection, schema: Schema, name: object) -> None:
    """Migrate a file to the current schema.

    Raises LedgerOpeningError if the file is of another kind, or of a newer version.
    """
    newest = len(schema.migrations)
    with writing(connection):  # also for reading the version: another process may be creating the tables
        version = _version(connection, schema, name)
        if version == newest:
            return
        if version > newest:
            raise LedgerOpeningError(
                f"{name} was written by a newer version of this service: its schema is {version}, the newest"
                f" known here is {newest}"
            )
        for migration in schema.migrations[version:]:
            for statement in _statements(migration):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {newest}")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script. `executescript` would end the transaction."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # not inside of a trigger
            yield statement
            statement = ""


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the write-ahead log into the file, and wait until it is on the disk."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def check_space(path: Path) -> None:
    """Write PROBE_PAGES to the write-ahead log, and take them back. Raises sqlite3.Error if that fails.

    A rollback takes back what a cache that is too small has written to the log: the file does not change, and
    the log does not grow with each check.
    """
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA cache_size = {_PROBE_CACHE_PAGES}")
        retry_while_locked(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            connection.execute("CREATE TABLE probe (bytes BLOB)")
            pages = PROBE_PAGES + _PROBE_CACHE_PAGES
            connection.execute("INSERT INTO probe VALUES (zeroblob(?))", (pages * PAGE_BYTES,))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _create(path: Path) -> None:
    """Create an empty file that only this user may read, or restrict the mode of an existing file to that.

    An existing file is not opened: closing it would end the locks of this process's other connections.
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
        raise LedgerOpeningError(f"{name} is a SQLite file of another application")
    return int(version)


def _hint(path: Path) -> str:
    if path.parent.is_dir():
        return ""
    advice = "" if path.is_absolute() else " (in a URL, an absolute path has four slashes: sqlite:////…)"
    return f"; there is no folder {path.parent.absolute()}{advice}"
