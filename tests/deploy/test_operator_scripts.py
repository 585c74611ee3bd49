"""deploy/backup, restore, rotate-key, uninstall and the command on the PATH, below a temporary folder.

The ledger, its checks and the release are real. systemctl is a stub that logs its arguments, and that refuses
those which a test names.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from ridges_proxy.ledger import Kind, Run, SqliteLedger
from tests.process.fake_chutes_control import ROOT
from tests.support.file_mode import mode_of
from tests.support.missing import missing
from tests.support.table import check_rows

SCRIPTS = ("install", "backup", "restore", "rotate-key", "uninstall", "ridges-proxy", "serve", "common.sh")

SYSTEMCTL = """#!/bin/sh
echo "$*" >>"{folder}/systemctl.log"
! grep -qxF -- "$*" "{folder}/refused" 2>/dev/null || { sed -i "\\|^$*$|d" "{folder}/refused"; exit 1; }
"""

OLD, NEW = "the-old-key", "the-new-key"
BOTH_UNITS = "ridges-proxy.socket ridges-proxy.service"
START, STOP = f"start {BOTH_UNITS}", f"stop {BOTH_UNITS}"
RELOAD = "reload ridges-proxy.service"


class Installation:
    """An installed service below a folder: one release, settings, keys and a ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self.home = self.root / "opt/ridges-proxy"
        self.etc = self.root / "etc/ridges-proxy"
        self.keys = self.etc / "keys"
        self.state = self.root / "var/lib/ridges-proxy"
        self.backups = self.root / "var/backups/ridges-proxy"
        self.ledger = self.state / "ledger.db"
        self.outbox = self.state / "outbox.db"
        release = self.home / "releases/1"
        for made in (release, self.keys, self.state, folder / "bin"):
            made.mkdir(parents=True)
        (release / ".venv").symlink_to(Path(sys.executable).parents[1])
        (release / "deploy").symlink_to(ROOT / "deploy")
        (self.home / "current").symlink_to("releases/1")
        (self.etc / "env").write_text("WORKERS=2\n")
        self.write_key("PROXY_API_KEY", OLD)
        systemctl = folder / "bin/systemctl"
        systemctl.write_text(SYSTEMCTL.replace("{folder}", str(folder)))
        systemctl.chmod(0o755)

    def write_key(self, name: str, key: str) -> None:
        (self.keys / name).write_text(f"{key}\n")

    def key(self, name: str) -> str | None:
        path = self.keys / name
        return path.read_text().strip() if path.exists() else None

    def refuse(self, *commands: str) -> None:
        """Let systemctl refuse each of these commands once."""
        (self._folder / "refused").write_text("".join(f"{each}\n" for each in commands))

    @property
    def asked(self) -> list[str]:
        """The arguments of all calls of systemctl that change something."""
        log = self._folder / "systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not line.startswith("is-active")]

    def run(self, script: str, *arguments: object, status: int = 0, **environ: str) -> str:
        result = subprocess.run(
            [ROOT / "deploy" / script, *map(str, arguments)],
            env={
                "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
                "DESTDIR": str(self.root),
                "LEDGER_URL": f"sqlite:///{self.ledger}",
                "LEDGER_OUTBOX": str(self.outbox),
                "WAIT_SECONDS": "0",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout + result.stderr

    def files(self) -> list[str]:
        return sorted(path.name for path in self.state.iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def spend(path: Path, nanousd: int) -> None:
    """Let the run `alpha` spend an amount, and close the file."""
    ledger = SqliteLedger(path, 600.0)
    ledger.settle(ledger.reserve(Run("alpha", 10**9), Kind.INFERENCE, nanousd, nanousd, 60.0), nanousd)
    ledger.disconnect()


def spent(path: Path) -> int:
    ledger = SqliteLedger(path, 600.0)
    usage = ledger.usage("alpha")
    ledger.disconnect()
    return 0 if usage is None else usage.spent_nanousd


def test_shellcheck_accepts_the_scripts() -> None:
    program = shutil.which("shellcheck") or missing("shellcheck", "apt install shellcheck")
    paths = [ROOT / "deploy" / name for name in SCRIPTS]
    result = subprocess.run([program, "-x", "-P", ROOT, *paths], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_each_script_has_a_help_and_refuses_wrong_usage(machine: Installation) -> None:
    def check(script: str) -> None:
        assert f"deploy/{script} " in machine.run(script, "--help")
        assert f"Usage: deploy/{script}" in machine.run(script, "--unknown", status=1)

    check_rows(["install", "backup", "restore", "rotate-key", "uninstall"], check)
    assert machine.asked == []


# --- the command


def test_the_command_runs_the_current_release_with_the_settings_of_the_service(machine: Installation) -> None:
    (machine.home / "releases/1/.venv").unlink()
    command = machine.home / "releases/1/.venv/bin/ridges-proxy"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$0 $* $SETTINGS_FILE $CREDENTIALS_DIRECTORY $PWD"\n')
    command.chmod(0o755)
    assert machine.run("ridges-proxy", "spend", "top").split() == [
        *(str(command), "spend", "top"),
        *(str(machine.etc / "env"), str(machine.keys), str(machine.state)),
    ]
    (machine.etc / "env").unlink()
    assert "member of the group ridges-proxy" in machine.run("ridges-proxy", "doctor", status=1)
    (machine.home / "current").unlink()
    assert "There is no release" in machine.run("ridges-proxy", "doctor", status=1)


# --- backup and restore


def test_a_backup_has_the_charges_of_a_ledger_in_use_and_only_its_owner_can_read_it(
    machine: Installation,
) -> None:
    ledger = SqliteLedger(machine.ledger, 600.0)  # its log is not yet in the file
    ledger.settle(ledger.reserve(Run("alpha", 10**9), Kind.INFERENCE, 300, 300, 60.0), 300)
    assert "The ledger is consistent." in machine.run("backup")
    (copy,) = machine.backups.iterdir()
    assert mode_of(copy) == 0o600
    assert spent(copy) == 300
    assert machine.asked == [], "the service runs on"


def test_no_code_is_loaded_from_the_folder_of_the_service(machine: Installation) -> None:
    spend(machine.ledger, 300)
    (machine.state / "ridges_proxy.py").write_text("raise SystemExit('code of an attacker')")
    assert "The backup is" in machine.run("backup")


def test_a_backup_has_the_settlements_that_wait(machine: Installation, tmp_path: Path) -> None:
    spend(machine.ledger, 300)
    with closing(sqlite3.connect(machine.outbox)) as outbox:
        outbox.execute("CREATE TABLE settlements (hold_id TEXT)")
    machine.run("backup", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db.outbox")) as outbox:
        assert outbox.execute("SELECT COUNT(*) FROM settlements").fetchone() == (0,)
    assert mode_of(tmp_path / "copy.db.outbox") == 0o600


def test_a_backup_that_is_refused_says_why_and_leaves_no_file(machine: Installation, tmp_path: Path) -> None:
    spend(machine.ledger, 300)
    (tmp_path / "taken.db").write_text("mine")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"x" * 4096)
    (tmp_path / "other.db.outbox").write_text("of another backup")
    (tmp_path / "linked.db.new").symlink_to(tmp_path / "taken.db")
    rows = [
        ((tmp_path / "taken.db",), {}, "exists already"),
        ((tmp_path / "other.db",), {}, "other.db.outbox exists already"),
        ((tmp_path / "linked.db",), {}, "There is no backup"),
        ((tmp_path / "no/folder.db",), {}, "There is no folder"),
        ((), {"LEDGER_URL": "memory://"}, "has no file"),
        ((), {"LEDGER_URL": "redis://127.0.0.1:1"}, "redis-cli"),
        ((), {"LEDGER_URL": "nonsense"}, "LEDGER_URL"),
        ((), {"LEDGER_URL": f"sqlite:///{damaged}"}, "cannot be copied"),
        ((), {"LEDGER_URL": f"sqlite:///{tmp_path}/missing.db"}, "cannot be copied"),
    ]

    def check(row: tuple[tuple[Path, ...], dict[str, str], str]) -> None:
        arguments, environ, message = row
        assert message in machine.run("backup", *arguments, status=1, **environ)

    check_rows(rows, check)
    assert (tmp_path / "taken.db").read_text() == "mine"
    assert list(machine.backups.iterdir()) == []
    assert not list(tmp_path.glob("*.new"))


def test_a_restore_stops_both_units_and_keeps_the_old_ledger_with_its_log(
    machine: Installation, tmp_path: Path
) -> None:
    spend(machine.ledger, 300)
    machine.run("backup", tmp_path / "copy.db")
    spend(machine.ledger, 200)
    log = machine.ledger.with_name("ledger.db-wal")
    log.write_bytes(b"the log of a killed server")
    machine.run("restore", tmp_path / "copy.db")
    assert machine.asked == [STOP, START]
    assert spent(machine.ledger) == 300
    assert mode_of(machine.ledger) == 0o600
    old_log, old = sorted(machine.state.glob("ledger.db.before-*"), key=lambda path: len(path.name))[::-1]
    assert old_log.read_bytes() == b"the log of a killed server"
    old_log.unlink()
    assert spent(old) == 500


def test_a_restore_brings_back_the_settlements_that_waited(machine: Installation, tmp_path: Path) -> None:
    spend(machine.ledger, 300)
    machine.outbox.touch()
    machine.run("backup", tmp_path / "copy.db")
    (tmp_path / "copy.db.outbox").write_bytes(b"the settlements of the backup")
    machine.outbox.write_bytes(b"later settlements")
    machine.run("restore", tmp_path / "copy.db")
    assert machine.outbox.read_bytes() == b"the settlements of the backup"
    (old,) = machine.state.glob("outbox.db.before-*")
    assert old.read_bytes() == b"later settlements"


def test_a_file_that_is_no_ledger_is_not_restored_and_the_service_runs_on(
    machine: Installation, tmp_path: Path
) -> None:
    spend(machine.ledger, 300)
    (tmp_path / "text.db").write_bytes(b"x" * 4096)
    assert "Nothing was changed" in machine.run("restore", tmp_path / "text.db", status=1)
    assert "There is no file" in machine.run("restore", tmp_path / "missing.db", status=1)
    assert machine.asked == []
    assert machine.files() == ["ledger.db"]


def test_a_ledger_that_a_server_still_uses_is_not_replaced(machine: Installation, tmp_path: Path) -> None:
    machine.ledger = machine.state / "ledger [1].db"  # for some tools, this is a pattern
    spend(machine.ledger, 300)
    machine.run("backup", tmp_path / "copy.db")
    ledger = SqliteLedger(machine.ledger, 600.0)
    said = machine.run("restore", tmp_path / "copy.db", status=1)
    assert f"still in use by processes {os.getpid()}" in said
    ledger.disconnect()
    assert machine.asked == [STOP, START]
    assert machine.files() == ["ledger [1].db"]


def test_a_service_that_does_not_start_gets_its_old_ledger_back(
    machine: Installation, tmp_path: Path
) -> None:
    spend(machine.ledger, 300)
    machine.run("backup", tmp_path / "copy.db")
    spend(machine.ledger, 200)
    machine.refuse(START)
    assert "The old ledger is in its place again" in machine.run("restore", tmp_path / "copy.db", status=1)
    assert machine.asked == [STOP, START, STOP, START]
    assert spent(machine.ledger) == 500
    assert machine.files() == ["ledger.db"]


# --- keys


def test_a_new_key_keeps_the_previous_one_until_the_change_ends(machine: Installation) -> None:
    said = machine.run("rotate-key", "PROXY_API_KEY")
    key = machine.key("PROXY_API_KEY")
    assert key is not None
    assert len(key) == 43
    assert key not in said
    assert machine.key("PROXY_API_KEY_PREVIOUS") == OLD
    assert {mode_of(path) for path in machine.keys.iterdir()} == {0o640}
    assert "has not ended" in machine.run("rotate-key", "PROXY_API_KEY", status=1)
    assert machine.key("PROXY_API_KEY_PREVIOUS") == OLD
    machine.run("rotate-key", "--finish", "PROXY_API_KEY")
    assert machine.key("PROXY_API_KEY_PREVIOUS") is None
    assert machine.asked == [RELOAD, RELOAD]
    assert "nothing to finish" in machine.run("rotate-key", "--finish", "PROXY_API_KEY", status=1)


def test_a_first_key_has_no_previous_one_and_is_shown_if_asked(machine: Installation) -> None:
    said = machine.run("rotate-key", "RUN_TOKEN_KEY", "--show")
    assert machine.key("RUN_TOKEN_KEY") in said.splitlines()
    assert machine.key("RUN_TOKEN_KEY_PREVIOUS") is None


def test_the_chutes_key_comes_from_a_file_and_has_no_previous_one(
    machine: Installation, tmp_path: Path
) -> None:
    machine.write_key("CHUTES_API_KEY", OLD)
    (tmp_path / "key").write_text(NEW)
    assert NEW not in machine.run("rotate-key", "CHUTES_API_KEY", tmp_path / "key")
    assert machine.key("CHUTES_API_KEY") == NEW
    assert machine.key("CHUTES_API_KEY_PREVIOUS") is None
    (tmp_path / "empty").touch()
    rows = [
        ((), "no terminal"),
        ((tmp_path / "empty",), "is empty"),
        ((tmp_path / "missing",), "cannot be read"),
        (("--finish",), "Usage"),
    ]

    def check(row: tuple[tuple[object, ...], str]) -> None:
        arguments, message = row
        assert message in machine.run("rotate-key", "CHUTES_API_KEY", *arguments, status=1)

    check_rows(rows, check)
    assert machine.key("CHUTES_API_KEY") == NEW


def test_after_a_refused_reload_the_old_keys_are_back_and_in_force(machine: Installation) -> None:
    machine.refuse(RELOAD)
    assert "the old keys are in their places" in machine.run("rotate-key", "PROXY_API_KEY", status=1)
    assert (machine.key("PROXY_API_KEY"), machine.key("PROXY_API_KEY_PREVIOUS")) == (OLD, None)
    assert machine.asked == [RELOAD, RELOAD]
    machine.run("rotate-key", "PROXY_API_KEY")
    machine.refuse(RELOAD)
    machine.run("rotate-key", "--finish", "PROXY_API_KEY", status=1)
    assert machine.key("PROXY_API_KEY_PREVIOUS") == OLD
    assert not list(machine.etc.glob(".rotate.*")), "no copies of keys are left"


def test_two_scripts_do_not_change_an_installation_at_the_same_time(
    machine: Installation, tmp_path: Path
) -> None:
    spend(machine.ledger, 300)
    machine.run("backup", tmp_path / "copy.db")
    with (machine.home / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        for command in (["restore", tmp_path / "copy.db"], ["rotate-key", "PROXY_API_KEY"], ["uninstall"]):
            assert "is running" in machine.run(str(command[0]), *command[1:], status=1)
    assert machine.asked == []


def test_a_key_that_the_settings_file_sets_is_not_changed(machine: Installation) -> None:
    (machine.etc / "env").write_text("  export ADMIN_API_KEY=a\n")
    assert "Move it to a file" in machine.run("rotate-key", "ADMIN_API_KEY", status=1)
    assert "Usage" in machine.run("rotate-key", "WORKERS", status=1)
    assert machine.asked == []


# --- removal


def test_an_uninstallation_keeps_settings_keys_and_the_ledger_unless_it_is_a_purge(
    machine: Installation,
) -> None:
    spend(machine.ledger, 300)
    machine.run("backup")
    units = machine.root / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("ridges-proxy.service", "ridges-proxy.socket"):
        shutil.copy(ROOT / "deploy" / name, units)
    said = machine.run("uninstall")
    assert f"Kept: settings and keys ({machine.etc})" in said
    assert machine.asked == [
        STOP,
        f"disable --quiet {BOTH_UNITS}",
        *("daemon-reload", "reset-failed ridges-proxy.service ridges-proxy.socket"),
    ]
    assert list(units.iterdir()) == []
    assert not machine.home.exists()
    assert spent(machine.ledger) == 300
    assert machine.key("PROXY_API_KEY") == OLD
    receipts = machine.root / "var/log/ridges-proxy"
    receipts.mkdir(parents=True)
    machine.run("uninstall", "--purge")
    assert not receipts.exists()
    assert not machine.etc.exists()
    assert not machine.state.exists()
    assert len(list(machine.backups.iterdir())) == 1
