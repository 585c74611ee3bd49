"""What `ridges-proxy ledger check` and the start of the server say about a SQLite file."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from ridges_proxy.billing.levels import Level
from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.ledger import Kind, LedgerOpeningError, Run, check_ledger_store
from ridges_proxy.ledger.sqlite.admin import MIN_FREE_BYTES, SqliteAdmin
from tests.support.table import check_rows


def settings_of(path: Path) -> LedgerSettings:
    outbox = str(path.with_name("outbox.db"))
    return load_settings(LedgerSettings, {"LEDGER_URL": f"sqlite:///{path}", "LEDGER_OUTBOX": outbox})


def open_files_of(path: Path) -> list[str]:
    """The files in the folder of the path that this process has open."""
    found: list[str] = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing of the folder itself is over
            found.append(str(file.readlink()))
    return [name for name in found if name.startswith(str(path.parent))]


def test_the_size_and_the_free_disk_are_stated_and_little_free_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    admin = SqliteAdmin(path)
    admin.maintain()

    def check(row: tuple[int, str, list[str]]) -> None:
        free, text, warnings = row
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        facts = {"file": str(path), "size": f"{path.stat().st_size // 1024} KiB", "free disk": text}
        assert admin.inspect() == (facts, warnings)

    rows: list[tuple[int, str, list[str]]] = [
        (MIN_FREE_BYTES, "1,024 MiB", []),
        (MIN_FREE_BYTES - 1, "1,023 MiB", ["the ledger's disk has only 1023 MiB left"]),
    ]
    check_rows(rows, check)
    admin.disconnect()


def test_the_audit_names_the_run_the_hold_or_the_budget_that_is_wrong() -> None:
    level = Level("day", "all", "lifetime", 1_000)

    def check(row: tuple[str, str]) -> None:
        corruption, problem = row
        with TemporaryDirectory() as folder:
            admin = SqliteAdmin(Path(folder) / "ledger.db")
            hold = admin.reserve(Run("a", 1_000, levels=(level,)), Kind.INFERENCE, 5, 5, 60.0)
            assert admin.audit().problems == []
            admin._connection.execute(corruption)
            assert admin.audit().problems == [problem.format(hold=hold.id)]
            admin.disconnect()

    mismatch = "its amounts do not match its open holds"
    rows = [
        ("UPDATE runs SET in_flight = 2", f"run 'a': {mismatch}"),
        ("DELETE FROM runs", "hold {hold}: its run does not exist"),
        ("UPDATE levels SET in_force_nanousd = -1", f"budget 'day' 'all' 'lifetime': {mismatch}"),
    ]
    check_rows(rows, check)


def test_an_outbox_that_cannot_be_opened_is_named_by_its_setting(tmp_path: Path) -> None:
    settings = load_settings(LedgerSettings, {"LEDGER_OUTBOX": f"{tmp_path}/none/outbox.db"})
    with pytest.raises(LedgerOpeningError, match=rf"^LEDGER_OUTBOX: .* no folder {tmp_path}/none$"):
        check_ledger_store(settings)


def test_a_file_that_cannot_be_written_is_refused_at_the_start_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteAdmin(path).disconnect()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE pings")
    with pytest.raises(LedgerOpeningError) as caught:
        check_ledger_store(settings_of(path))
    assert str(caught.value) == f"sqlite:///{path} cannot be used: no such table: pings"
    assert open_files_of(path) == []


def test_after_the_check_at_the_start_no_file_is_open(tmp_path: Path) -> None:
    """SQLite's locks do not survive a fork: a worker that inherits a connection would believe it has them."""
    path = tmp_path / "ledger.db"
    check_ledger_store(settings_of(path))
    assert (path.exists(), path.with_name("outbox.db").exists()) == (True, True)
    assert open_files_of(path) == []
