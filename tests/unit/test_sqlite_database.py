"""The file of a SQLite ledger: creation, migration, locks, replacement, clock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from errno import EROFS
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

import gevent
import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, LedgerOpeningError, Run, SqliteLedger
from ridges_proxy.ledger.sqlite import database, schema
from tests.support.clock import Clock
from tests.support.file_mode import mode_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

RUN = Run("run", 1_000)
TTL_SECONDS = 600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def spend(ledger: SqliteLedger, cost: int = 10) -> None:
    assert ledger.settle(ledger.reserve(RUN, Kind.INFERENCE, cost, cost, 60.0), cost)


def spent(ledger: SqliteLedger) -> int:
    usage = ledger.usage("run")
    return usage.spent_nanousd if usage else 0


# --- the file


def test_only_the_user_of_the_service_may_read_its_files(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        spend(SqliteLedger(path, TTL_SECONDS))
    finally:
        os.umask(old_mask)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert {mode_of(file) for file in files} == {0o600}
    path.chmod(0o644)
    SqliteLedger(path, TTL_SECONDS)
    assert mode_of(path) == 0o600, "an existing file is restricted too"


def test_a_file_that_is_opened_again_has_the_usage_of_before(path: Path) -> None:
    spend(SqliteLedger(path, TTL_SECONDS), 123)
    assert spent(SqliteLedger(path, TTL_SECONDS)) == 123


def test_two_ledgers_on_one_file_see_each_others_changes(path: Path) -> None:
    one, other = SqliteLedger(path, TTL_SECONDS), SqliteLedger(path, TTL_SECONDS)
    hold = one.reserve(RUN, Kind.INFERENCE, 100, 100, 60.0)
    assert other.settle(hold, 60)
    assert one.settle(hold, 60) is None
    assert spent(one) == spent(other) == 60


def write_text(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough for a header" * 99)


def make_other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")


def make_newer_version(path: Path) -> None:
    SqliteLedger(path, TTL_SECONDS)._connection.execute("PRAGMA user_version = 99")


def test_a_file_that_cannot_be_used_is_refused_with_the_reason() -> None:
    def check(row: tuple[Callable[[Path], object], str, str]) -> None:
        prepare, name, message = row
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            prepare(path)
            with pytest.raises(LedgerOpeningError, match=message):
                SqliteLedger(path, TTL_SECONDS)
            if prepare is make_other_database:
                with closing(sqlite3.connect(path)) as connection:
                    found = connection.execute("SELECT name FROM sqlite_schema").fetchall()
                assert found == [("things",)], "the file was not changed"

    rows: list[tuple[Callable[[Path], object], str, str]] = [
        (write_text, "ledger.db", "not a database"),
        (Path.mkdir, "ledger.db", "unable to open"),
        (make_other_database, "ledger.db", r"/ledger\.db is a SQLite file of another application"),
        (
            make_newer_version,
            "ledger.db",
            r"/ledger\.db was written by a newer version of this service: its schema is 99",
        ),
        (lambda _: None, "nowhere/ledger.db", r"there is no folder /.*/nowhere$"),
    ]
    check_rows(rows, check)


def test_a_relative_path_without_its_folder_is_refused_with_advice_about_slashes() -> None:
    advice = r"no folder /.*/nowhere \(in a URL, an absolute path has four slashes: sqlite:////…\)$"
    with pytest.raises(LedgerOpeningError, match=advice):
        SqliteLedger(Path("nowhere/ledger.db"), TTL_SECONDS)


def test_a_disk_that_cannot_be_written_is_named_as_the_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(EROFS, os.strerror(EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LedgerOpeningError, match=r"Read-only file system$"):
        SqliteLedger(path, TTL_SECONDS)


# --- migrations


def test_a_file_of_an_older_version_is_migrated_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_file_of_version_0_2_0_keeps_its_runs_and_receipts(path: Path) -> None:
    old = database.Schema(schema.LEDGER.application_id, schema.LEDGER.migrations[:2])
    with closing(database.open_file(path, old)) as connection:
        connection.execute("INSERT INTO runs VALUES ('run', 1000, 77, 0, 0, 1, 0, 9.0, 9.0, 0.0, 0)")
        connection.execute("INSERT INTO receipts VALUES (1, 'used up', 1000, 1000, 0, 1, 1.0, 2.0, 0)")
    ledger = SqliteLedger(path, TTL_SECONDS, receipt_days=30, clock=lambda: 10.0)
    assert spent(ledger) == 77
    (receipt,) = ledger.history(0.0, None, 10).receipts
    assert (receipt.run.spent_nanousd, receipt.run.finished) == (1_000, False)
    assert ledger.usage("used up") is None, "only receipts of this version remember a finished run"


def test_workers_of_the_version_before_finish_their_calls_in_a_migrated_file(path: Path) -> None:
    """The statements are theirs, as they stand there."""
    old = database.Schema(schema.LEDGER.application_id, schema.LEDGER.migrations[:4])
    insert, delete = (
        "INSERT INTO holds VALUES (?, ?, ?, ?, ?)",
        "DELETE FROM holds WHERE hold_id = ? RETURNING *",
    )
    first, second = (("first", "run", "inference", 5, 9.0), ("second", "run", "inference", 6, 9.0))
    with closing(database.open_file(path, old)) as connection:
        connection.execute(insert, first)
        ledger = SqliteLedger(path, TTL_SECONDS, clock=lambda: 10.0)
        level = Level("all", "all", "lifetime", 1_000)
        ledger.reserve(replace(RUN, levels=(level,)), Kind.INFERENCE, 7, 1, -1.0)

        connection.execute(insert, second)
        expired = connection.execute(
            "SELECT * FROM holds WHERE expires_at <= ? LIMIT ?", (10.0, 9)
        ).fetchall()
        assert expired == [first, second], "those of levels are hidden: they would not charge the levels"
        assert [connection.execute(delete, (hold[0],)).fetchall() for hold in (*expired, first)] == [
            [first],
            [second],
            [],
        ]
    assert [hold.amount_nanousd for hold in ledger.sweep(9).expired] == [7]


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spend(SqliteLedger(path, TTL_SECONDS), 77)
    released = schema.LEDGER
    broken = database.Schema(
        released.application_id, (*released.migrations, "DELETE FROM runs; CREATE NONSENSE;")
    )
    monkeypatch.setattr(schema, "LEDGER", broken)
    with pytest.raises(LedgerOpeningError, match="cannot use"):
        SqliteLedger(path, TTL_SECONDS)
    monkeypatch.setattr(schema, "LEDGER", released)
    assert spent(SqliteLedger(path, TTL_SECONDS)) == 77


# --- failures while the ledger is open


def test_a_file_that_cannot_be_written_refuses_every_change_and_can_be_read(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    spend(ledger)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)
    ledger._connection.execute("PRAGMA query_only = 1")
    changes: list[tuple[str, Callable[[], object]]] = [
        ("reserve", lambda: ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)),
        ("settle", lambda: ledger.settle(hold, 5)),
        ("release", lambda: ledger.release(hold)),
        ("close", lambda: ledger.close(RUN)),
        ("reset", lambda: ledger.reset("run")),
        ("ping", ledger.ping),
    ]

    def check(row: tuple[str, Callable[[], object]]) -> None:
        with pytest.raises(LedgerUnavailableError):
            row[1]()

    check_rows(changes, check)
    assert spent(ledger) == 10
    ledger._connection.execute("PRAGMA query_only = 0")
    assert ledger.settle(hold, 5)


def test_a_change_that_fails_halfway_changes_nothing(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER broken BEFORE INSERT ON open_holds BEGIN SELECT RAISE(ABORT, ''); END")
        with pytest.raises(LedgerUnavailableError):
            spend(ledger)
        assert ledger.usage("run") is None
        other.execute("DROP TRIGGER broken")
    spend(ledger)
    assert spent(ledger) == 10


def test_a_hold_whose_run_is_missing_does_not_stop_the_sweep(path: Path) -> None:
    """As in a file that was damaged or changed by hand."""
    ledger = SqliteLedger(path, TTL_SECONDS, clock=(clock := Clock()))
    for name in ("missing", "run"):
        ledger.reserve(Run(name, 1_000), Kind.INFERENCE, 10, 10, 60.0)
    ledger._connection.execute("DELETE FROM runs WHERE run_id = 'missing'")
    clock.advance(60)
    assert len(ledger.sweep(10).expired) == 2
    assert spent(ledger) == 10
    assert ledger.sweep(10).expired == []


def test_a_locked_file_is_waited_for_up_to_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.05, lambda: other.execute("COMMIT"))
        timer.start()
        spend(ledger)
        timer.join()
        monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.05)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError):
            spend(ledger)
        other.execute("ROLLBACK")
    spend(ledger)


def test_steps_that_share_a_transaction_wait_for_a_locked_file_only_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    retry, waits = database.retry_while_locked, []

    def wait(step: Callable[[], object]) -> None:
        waits.append(step)
        retry(step)

    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(database, "retry_while_locked", wait)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first, second = database.write_together(ledger._connection, [lambda _: 1, lambda _: 2])
        assert isinstance(first, sqlite3.OperationalError)
        assert (first is second, len(waits)) == (True, 1)
        other.execute("ROLLBACK")
    assert database.write_together(ledger._connection, [lambda _: 1, lambda _: 2]) == [1, 2]


def test_steps_that_run_alone_wait_for_a_file_that_becomes_locked_only_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step fails, so each runs alone. From the third one on, another process has the file."""
    ledger = SqliteLedger(path, TTL_SECONDS)
    writing, begun = database.writing, []

    def writing_until_locked(connection: sqlite3.Connection) -> AbstractContextManager[None]:
        begun.append(connection)
        if len(begun) == 4:
            other.execute("BEGIN IMMEDIATE")
        return writing(connection)

    def fail(_: sqlite3.Connection) -> int:
        raise ValueError

    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.02)
    monkeypatch.setattr(database, "writing", writing_until_locked)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        steps = [lambda _: 1, fail, lambda _: 3, lambda _: 4, lambda _: 5]
        first, second, *locked = database.write_together(ledger._connection, steps)
    assert (first, type(second), len(locked), len(begun)) == (1, ValueError, 3, 4)
    assert isinstance(locked[0], sqlite3.OperationalError)
    assert all(each is locked[0] for each in locked)


def test_other_greenlets_run_while_a_locked_file_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.5)
    ledger = SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        unlocks = gevent.spawn(other.execute, "COMMIT")
        spend(ledger)
        assert unlocks.successful()


def replace_with_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.rename(path)


def test_a_ledger_whose_file_was_moved_deleted_or_replaced_refuses_changes() -> None:
    """Other processes would not see them."""

    def check(row: tuple[str, Callable[[Path], object]]) -> None:
        _, change = row
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.db"
            ledger = SqliteLedger(path, TTL_SECONDS)
            spend(ledger)
            change(path)
            with suppress(LedgerUnavailableError):
                ledger.maintain()
            with pytest.raises(LedgerUnavailableError):
                spend(ledger)

    rows: list[tuple[str, Callable[[Path], object]]] = [
        ("moved", lambda path: path.rename(path.with_name("other.db"))),
        ("deleted", Path.unlink),
        ("replaced", replace_with_a_copy),
    ]
    check_rows(rows, check)


def test_only_the_latest_closed_runs_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridges_proxy.ledger.sqlite.transactions.CLOSED_RUNS_KEPT", 3)
    ledger = SqliteLedger(path, TTL_SECONDS)
    start = ledger.closed_runs_since(None)
    for number in range(5):
        ledger.close(Run(f"run-{number}", 10))
    assert ledger.closed_runs_since(start.cursor).run_ids == ["run-2", "run-3", "run-4"]


def test_the_check_of_the_disk_writes_as_much_as_a_reservation_may(path: Path) -> None:
    """A few pages may fit in the rest of a full disk. A second check writes in the place of the first."""
    ledger = SqliteLedger(path, TTL_SECONDS)
    log = path.with_name("ledger.db-wal")
    before = log.stat().st_size
    sizes = []
    for _ in range(2):
        database.check_space(path)
        sizes.append(log.stat().st_size)
    assert sizes[0] - before >= database.PROBE_PAGES * database.PAGE_BYTES
    assert sizes[1] == sizes[0]
    ledger.disconnect()


def test_maintain_writes_the_log_into_the_file(path: Path) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    spend(ledger, 321)
    ledger.maintain()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)  # without its -wal file
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT inference_nanousd FROM runs").fetchall() == [(321,)]
    spend(ledger)  # the file is still in its place


# --- the clock


def test_a_change_of_the_system_clock_moves_no_expiry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqliteLedger(path, TTL_SECONDS)
    hold = ledger.reserve(RUN, Kind.INFERENCE, 5, 5, 60.0)
    system_time = time.time
    for change in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda change=change: system_time() + change)
        for each in (ledger, SqliteLedger(path, TTL_SECONDS)):
            assert each.sweep(10).expired == []
            assert abs(each.reserve(RUN, Kind.INFERENCE, 1, 1, 60.0).expires_at - hold.expires_at) < 30


def test_after_a_boot_the_clock_continues_from_the_system_clock_and_never_goes_back(
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
    second = SqliteLedger(path, TTL_SECONDS)
    assert 2e9 <= second.reserve(RUN, Kind.INFERENCE, 1, 1, 60.0).expires_at - 60 < 2e9 + 30
    boot.write_text("third")
    monkeypatch.setattr(time, "time", lambda: 2e9 + 61)
    assert len(SqliteLedger(path, TTL_SECONDS).sweep(10).expired) == 2, "both were made before the boot"


# --- failures


def test_a_failure_is_logged_with_the_text_of_sqlite(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the connection of the process, in the thread of a long read, and in the check of the disk."""

    def fail(_: Path) -> NoReturn:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "check_space", fail)
    ledger = SqliteLedger(path, TTL_SECONDS)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE runs")
        other.commit()

    def check(row: tuple[Callable[[], object], str]) -> None:
        step, text = row
        caplog.clear()
        with pytest.raises(LedgerUnavailableError):
            step()
        (record,) = [each for each in caplog.records if each.msg == "the ledger failed"]
        assert vars(record)["error"] == text

    rows: list[tuple[Callable[[], object], str]] = [
        (lambda: ledger.usage("run"), "no such table: runs"),
        (ledger.count, "no such table: runs"),
        (ledger.ping, "database or disk is full"),
    ]
    check_rows(rows, check)


def test_a_ledger_that_cannot_be_opened_leaves_no_connection(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[sqlite3.Connection] = []

    def fail(connection: sqlite3.Connection) -> NoReturn:
        opened.append(connection)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(schema, "clock_of", fail)
    with pytest.raises(LedgerOpeningError, match=f"cannot use {path}: disk I/O error"):
        SqliteLedger(path, TTL_SECONDS)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
