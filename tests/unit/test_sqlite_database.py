"""What a SQLite ledger does with its file; what it does with runs is the contract's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing, suppress
from errno import EROFS
from stat import S_IMODE
from typing import TYPE_CHECKING, NoReturn

import pytest

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, LedgerOpeningError, Run, SqliteLedger
from ridges_proxy.ledger.sqlite import database, schema

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run("run", 1_000)
TTL_SECONDS = 600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def spend(ledger: SqliteLedger, cost: int = 10) -> None:
    assert ledger.settle(ledger.reserve(RUN, Kind.INFERENCE, cost, cost, 60.0), cost)


def spent(ledger: SqliteLedger) -> int:
    books = ledger.usage("run")
    return books.spent_nanousd if books else 0


# --- the file


def test_nobody_else_may_read_the_file_or_what_stands_beside_it(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        spend(SqliteLedger(path, TTL_SECONDS))
    finally:
        os.umask(old_mask)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert {S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    SqliteLedger(path, TTL_SECONDS)
    path.chmod(0o644)
    SqliteLedger(path, TTL_SECONDS)
    assert S_IMODE(path.stat().st_mode) == 0o600


def test_books_are_there_when_the_file_is_opened_again(path: Path) -> None:
    spend(SqliteLedger(path, TTL_SECONDS), 123)
    assert spent(SqliteLedger(path, TTL_SECONDS)) == 123


def test_two_that_have_the_file_open_see_each_others_books(path: Path) -> None:
    one, other = SqliteLedger(path, TTL_SECONDS), SqliteLedger(path, TTL_SECONDS)
    hold = one.reserve(RUN, Kind.INFERENCE, 100, 100, 60.0)
    assert other.settle(hold, 60)
    assert one.settle(hold, 60) is None
    assert spent(one) == spent(other) == 60


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda path: path.write_bytes(b"no database at all, but long enough for a header" * 99),
            "not a database",
        ),
        (lambda path: path.mkdir(), "unable to open"),
    ],
)
def test_a_file_that_is_none_of_ours_is_a_clear_error(path: Path, spoil: object, words: str) -> None:
    spoil(path)  # type: ignore[operator] # a lambda
    with pytest.raises(LedgerOpeningError, match=words):
        SqliteLedger(path, TTL_SECONDS)


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    with pytest.raises(LedgerOpeningError, match="is a SQLite file of another application"):
        SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path)) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")] == ["things"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerOpeningError, match=r"there is no folder .*nowhere .*four slashes"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.db", TTL_SECONDS)


def test_a_disk_that_cannot_be_written_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(EROFS, os.strerror(EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LedgerOpeningError, match="Read-only file system"):
        SqliteLedger(path, TTL_SECONDS)


# --- the schema


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    SqliteLedger(path, TTL_SECONDS)._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerOpeningError, match="by a newer version of this service: its schema is 99"):
        SqliteLedger(path, TTL_SECONDS)


def test_a_file_of_an_older_version_is_brought_to_the_present_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(SqliteLedger(path, TTL_SECONDS), 77)
    newer = database.Schema(
        schema.LEDGER.application_id,
        (*schema.LEDGER.migrations, "CREATE TABLE more (x); INSERT INTO more VALUES (1);"),
    )
    monkeypatch.setattr(schema, "LEDGER", newer)
    for _ in range(2):
        ledger = SqliteLedger(path, TTL_SECONDS)
        assert ledger._connection.execute("SELECT x FROM more").fetchall() == [(1,)]
        assert ledger._connection.execute("PRAGMA user_version").fetchone() == (len(newer.migrations),)
    assert spent(ledger) == 77


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spend(SqliteLedger(path, TTL_SECONDS), 77)
    shipped = schema.LEDGER
    broken = database.Schema(
        shipped.application_id, (*shipped.migrations, "DELETE FROM runs; CREATE NONSENSE;")
    )
    monkeypatch.setattr(schema, "LEDGER", broken)
    with pytest.raises(LedgerOpeningError, match="cannot use"):
        SqliteLedger(path, TTL_SECONDS)
    monkeypatch.setattr(schema, "LEDGER", shipped)
    assert spent(SqliteLedger(path, TTL_SECONDS)) == 77


# --- while it runs


def test_what_cannot_be_written_is_refused_and_changes_nothing(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    spend(ledger)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)
    ledger._connection.execute("PRAGMA query_only = 1")
    verbs = [
        lambda: ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0),
        lambda: ledger.settle(hold, 5),
        lambda: ledger.release(hold),
        lambda: ledger.close(RUN),
        lambda: ledger.reset("run"),
        ledger.ping,
    ]
    for verb in verbs:
        with pytest.raises(LedgerUnavailableError):
            verb()
    assert spent(ledger) == 10, "it can still be read"
    ledger._connection.execute("PRAGMA query_only = 0")
    assert ledger.settle(hold, 5)


def test_a_lock_that_is_never_given_back_is_waited_for_no_longer_than_the_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.05)
    ledger = SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError):
            spend(ledger)
        other.execute("ROLLBACK")
    spend(ledger)


def test_a_lock_is_waited_for(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, lambda: other.execute("COMMIT")).start()
    spend(ledger)
    other.close()


@pytest.mark.parametrize("fate", ["moved", "deleted", "replaced"])
def test_when_the_file_is_gone_no_more_is_booked_into_what_nobody_else_can_see(path: Path, fate: str) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    spend(ledger)
    if fate == "moved":
        path.rename(path.with_name("other.db"))
    elif fate == "deleted":
        path.unlink()
    else:
        shutil.copy(path, path.with_name("copy.db"))
        path.with_name("copy.db").rename(path)
    with suppress(LedgerUnavailableError):
        ledger.maintain()
    with pytest.raises(LedgerUnavailableError):
        spend(ledger)


def test_upkeep_brings_what_was_written_into_the_file_proper(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    spend(ledger, 321)
    ledger.maintain()
    alone = path.with_name("copy.db")
    shutil.copy(path, alone)  # without the -wal beside it
    with closing(sqlite3.connect(alone)) as connection:
        assert connection.execute("SELECT inference_nanousd FROM runs").fetchall() == [(321,)]


# --- the clock


def test_a_step_of_the_systems_clock_moves_no_expiry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)
    really = time.time
    for step in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda step=step: really() + step)
        for each in (ledger, SqliteLedger(path, TTL_SECONDS)):
            assert each.sweep(10).overdue == []
            assert abs(each.reserve(RUN, Kind.INFERENCE, 1, 1, 60.0).expires_at - hold.expires_at) < 30


def test_after_a_boot_time_goes_on_from_the_systems_clock_and_never_back(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(schema, "BOOT_ID", boot)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    boot.write_text("first")
    first = SqliteLedger(path, TTL_SECONDS)
    hold = first.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)
    assert 2e9 <= hold.expires_at - 60 < 2e9 + 30
    boot.write_text("second")
    monkeypatch.setattr(time, "time", lambda: 1e9)
    behind = SqliteLedger(path, TTL_SECONDS)
    assert 2e9 <= behind.reserve(RUN, Kind.INFERENCE, 1, 1, 60.0).expires_at - 60 < 2e9 + 30
    boot.write_text("third")
    monkeypatch.setattr(time, "time", lambda: 2e9 + 61)
    assert len(SqliteLedger(path, TTL_SECONDS).sweep(10).overdue) == 2, "they were made before the boot"
