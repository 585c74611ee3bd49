from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.ledger import ledger
from ridges_proxy.ledger import Kind, Run, SqliteLedger
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows
from tests.unit.test_cli import assert_fails

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CAP_NANOUSD = 2_000_000_000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without the settings of a developer."""
    monkeypatch.chdir(tmp_path)
    for name in ("LEDGER_URL", "CHUTES_API_KEY", "PROXY_API_KEY", "ADMIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def url(folder: Path) -> str:
    make_ledger(folder / "ledger.db")
    return "sqlite:///ledger.db"


def make_ledger(path: Path) -> None:
    """Make a ledger in which `alpha` has spent 300 nano-USD and holds 70."""
    store = SqliteLedger(path, 600.0)
    run = Run("alpha", CAP_NANOUSD)
    store.settle(store.reserve(run, Kind.INFERENCE, 300, 300, 60.0), 300)
    store.reserve(run, Kind.EMBEDDING, 70, 70, 60.0)


def run(url: str, *command: str, answer: str = "") -> Result:
    return CliRunner().invoke(ledger, command, env={"LEDGER_URL": url}, input=answer)


def assert_warns(result: Result, *messages: str) -> None:
    """Check that the command printed its result, and then the problems."""
    assert result.exit_code == 4
    assert result.stdout
    for message in messages:
        assert message in result.stderr


def spoil(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def test_check_prints_the_properties_of_a_file(url: str, folder: Path) -> None:
    result = run(url, "check")
    assert result.exit_code == 0
    assert result.stdout.startswith("ledger            sqlite:///ledger.db\n")
    assert str(folder / "ledger.db") in result.stdout
    facts = json.loads(run(url, "check", "--json").stdout)
    assert (facts["ledger"], facts["worries"]) == (url, [])


def test_check_names_the_problems_of_a_redis() -> None:
    with RedisServer() as server:
        server.client.config_set("maxmemory", "100mb")
        server.client.config_set("maxmemory-policy", "allkeys-lru")
        result = run(server.url, "check")
        assert_warns(result, "maxmemory-policy evicts keys", "appendonly is off")
        assert "version" in result.stdout
    with RedisServer("--appendonly", "yes") as server:
        assert run(server.url, "check").exit_code == 0


def test_check_reports_a_missing_permission() -> None:
    with RedisServer("--appendonly", "yes") as server:
        server.ask("ACL", "SETUSER", "default", "-info")
        assert_warns(run(server.url, "check"), "may not ask for INFO")


def test_a_store_that_does_not_answer_is_status_3_without_its_password() -> None:
    for command in ("check", "verify"):
        result = run(f"redis://:hidden@127.0.0.1:{free_port()}", command)
        assert_fails(
            result, 3, "redis://127.0.0.1:", "cannot be used: it refuses connections, or it does not run"
        )
        assert "hidden" not in result.output


def test_a_file_that_is_not_a_ledger_is_status_3(folder: Path) -> None:
    (folder / "x.db").write_text("no database at all, and long enough to be read as the header of one" * 9)
    assert_fails(run("sqlite:///x.db", "check"), 3, "x.db")
    assert_fails(run("sqlite:///nowhere/x.db", "check"), 3, "there is no folder", "four slashes")


def test_the_memory_of_another_process_cannot_be_read() -> None:
    check_rows(
        [["check"], ["verify"], ["migrate", "--yes", "memory://", "sqlite:///y.db"]],
        lambda command: assert_fails(run("", *command), 2, "memory:// is the memory of the server's process"),
    )


def test_an_invalid_url_is_wrong_usage() -> None:
    assert_fails(run("http://x", "check"), 2, "LEDGER_URL must be memory://")
    assert_fails(run("", "migrate", "--yes", "sqlite:///y.db", "x"), 2, "LEDGER_URL must be memory://")


def test_verify_recomputes_the_totals(url: str) -> None:
    result = run(url, "verify")
    assert result.exit_code == 0
    assert result.stdout == (
        "1 run: $0.0000003 spent, $0.00000007 held in 1 call; 0 receipts: $0.00 spent; 0 levels of budgets.\n"
        "Charged in total: $0.0000003."
        " Of this, $0.00 was reset, and $0.00 belongs to deleted receipts.\n"
        "The ledger is consistent.\n"
    )
    audit = json.loads(run(url, "verify", "--json").stdout)
    assert (audit["spent_nanousd"], audit["held_nanousd"], audit["missing_nanousd"]) == (300, 70, 0)


def test_verify_names_what_is_wrong(folder: Path) -> None:
    rows = [
        ("UPDATE runs SET inference_nanousd = 200", "100 nano-USD were charged but are not in the ledger"),
        ("UPDATE runs SET inference_nanousd = 307", "7 nano-USD are in the ledger but were never charged"),
        ("DELETE FROM open_holds", "run 'alpha': its amounts do not match its open holds"),
        ("DELETE FROM runs", ": its run does not exist"),
    ]

    def check(row: tuple[str, str]) -> None:
        sql, message = row
        path = folder / f"{rows.index(row)}.db"
        make_ledger(path)
        spoil(path, sql)
        url = f"sqlite:///{path.name}"
        assert_warns(run(url, "verify"), message)
        assert run(url, "verify", "--json").exit_code == 4

    check_rows(rows, check)


def test_migrate_moves_everything(url: str) -> None:
    with RedisServer() as server:
        result = run("", "migrate", "--yes", url, server.url)
        assert result.stdout == (
            "Moved 1 run, $0.0000003 spent and $0.00000007 held, 0 receipts, 0 single calls, 0 levels,"
            " 0 set amounts, 0 alerts and 0 audited actions.\n"
        )
        assert json.loads(run(server.url, "verify", "--json").stdout)["spent_nanousd"] == 300
        back = run("", "migrate", "--yes", "--json", server.url, "sqlite:///again.db")
        assert json.loads(back.stdout) == {
            "runs": 1,
            "receipts": 0,
            "levels": 0,
            "set_amounts": 0,
            "alerts": 0,
            "audit_entries": 0,
            "spent_nanousd": 300,
            "held_nanousd": 70,
            "calls": 0,
        }


def test_migrate_asks_first(url: str) -> None:
    assert_fails(run("", "migrate", url, "sqlite:///y.db", answer="n\n"), 1, "Nothing was moved")
    assert json.loads(run(url, "verify", "--json").stdout)["runs"] == 1
    assert run("", "migrate", url, "sqlite:///y.db", answer="y\n").exit_code == 0


def test_migrate_does_not_merge_runs(url: str, folder: Path) -> None:
    other = SqliteLedger(folder / "other.db", 600.0)
    other.settle(other.reserve(Run("alpha", CAP_NANOUSD), Kind.INFERENCE, 5, 5, 60.0), 5)
    assert_fails(run("", "migrate", "--yes", url, "sqlite:///other.db"), 4, "'alpha' is in both stores")
