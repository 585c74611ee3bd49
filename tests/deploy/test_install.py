"""deploy/install below a temporary folder, with a stub in place of Python: nothing is downloaded."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import ROOT
from tests.support.file_mode import mode_of

if TYPE_CHECKING:
    from pathlib import Path

STUB = """#!/bin/sh
# A stub for Python: it creates no environment, installs and compiles nothing, and logs what it should do.
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *"-m pip"* | *"-m compileall"*) printf '%s\\n' "$*" >>"{log}" ;;
    *) exec python3 "$@" ;;
esac
"""


class Machine:
    """A temporary folder as the root of the file system, and a stub for Python."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.log = folder / "pip.log"
        self.key_file = folder / "chutes-key"
        self.key_file.write_text("the-chutes-key\n")
        self._python = folder / "python"
        self._python.write_text(STUB.format(log=self.log))
        self._python.chmod(0o755)
        self.home = self.root / "opt" / "ridges-proxy"
        self.etc = self.root / "etc" / "ridges-proxy"

    def install(self, *arguments: str, status: int = 0, mask: str = "022", **environ: str) -> str:
        result = subprocess.run(
            ["bash", "-c", f'umask {mask}; exec "$@"', "bash", ROOT / "deploy" / "install", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "DESTDIR": str(self.root),
                "PYTHON": str(self._python),
                "CHUTES_API_KEY_FILE": str(self.key_file),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout + result.stderr

    @property
    def current(self) -> str:
        return str((self.home / "current").readlink())

    def key(self, name: str) -> str:
        return (self.etc / "keys" / name).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_installation_creates_a_release_settings_keys_and_units(machine: Machine) -> None:
    machine.install()
    release = machine.home / "current"
    for name in (
        "wsgi.py",
        "gunicorn.conf.py",
        "ridges_proxy/__init__.py",
        ".venv/bin/python",
        "deploy/install",
        "deploy/serve",
    ):
        assert (release / name).exists()
    pip_calls = machine.log.read_text().splitlines()
    assert "--require-hashes -r" in pip_calls[0]
    assert "--no-deps -e" in pip_calls[1]
    assert machine.key("CHUTES_API_KEY") == "the-chutes-key\n"
    keys = [machine.key(name) for name in ("PROXY_API_KEY", "ADMIN_API_KEY")]
    assert len(set(keys)) == 2
    assert all(len(key) > 40 for key in keys)
    assert (machine.etc / "env").read_bytes() == (ROOT / "deploy" / "production.env").read_bytes()
    for unit in ("ridges-proxy.service", "ridges-proxy.socket"):
        assert (machine.root / "etc/systemd/system" / unit).read_bytes() == (
            ROOT / "deploy" / unit
        ).read_bytes()
    assert (machine.root / "etc/sysusers.d/ridges-proxy.conf").exists()
    assert "-m compileall" in pip_calls[2], "the service cannot write compiled files"


def test_only_root_and_the_group_of_the_service_can_read_keys_and_settings(machine: Machine) -> None:
    machine.install()
    secret_files = [machine.etc / "env", *(machine.etc / "keys").iterdir()]
    assert len(secret_files) == 4
    assert {mode_of(path) for path in secret_files} == {0o640}
    assert {mode_of(path) for path in (machine.etc, machine.etc / "keys")} == {0o750}


def test_the_service_can_read_a_release_that_was_installed_with_a_strict_umask(machine: Machine) -> None:
    machine.install(mask="077")
    folders = [machine.home, *(path for path in machine.home.rglob("*") if not path.is_symlink())]
    assert [path for path in folders if mode_of(path) & 0o044 != 0o044] == []
    assert [path for path in folders if path.is_dir() and mode_of(path) & 0o011 != 0o011] == []


def test_an_installation_without_the_chutes_key_fails_and_says_where_it_can_be(machine: Machine) -> None:
    output = machine.install(status=1, CHUTES_API_KEY_FILE="", CHUTES_API_KEY="on-the-command-line")
    assert "The Chutes key is missing" in output
    assert list((machine.home / "releases").iterdir()) == [], "no half of an installation is left"
    (machine.etc / "keys" / "CHUTES_API_KEY").write_text("mine\n")
    machine.install()
    assert machine.key("CHUTES_API_KEY") == "mine\n"


def test_a_second_installation_at_the_same_time_is_refused(machine: Machine) -> None:
    machine.home.mkdir(parents=True)
    with (machine.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another installation" in machine.install(status=1)
    machine.install()


def test_an_upgrade_keeps_settings_and_keys_and_can_be_undone(machine: Machine) -> None:
    machine.install()
    first, key = machine.current, machine.key("PROXY_API_KEY")
    (machine.etc / "env").write_text("WORKERS=4\n")
    machine.key_file.write_text("another\n")
    machine.install()
    second = machine.current
    assert second != first
    assert (machine.etc / "env").read_text() == "WORKERS=4\n"
    assert (machine.key("PROXY_API_KEY"), machine.key("CHUTES_API_KEY")) == (key, "the-chutes-key\n")
    machine.install("--back")
    assert machine.current == first
    machine.install("--back")
    assert machine.current == second


def test_four_releases_are_kept_and_the_current_one_is_among_them(machine: Machine) -> None:
    for _ in range(7):
        machine.install()
    kept = sorted(path.name for path in (machine.home / "releases").iterdir())
    assert len(kept) == 4
    assert machine.current.removeprefix("releases/") in kept


def test_a_failed_installation_prints_its_reason(machine: Machine) -> None:
    assert "no previous release" in machine.install("--back", status=1)
    assert "Usage: deploy/install" in machine.install("--forward", status=1)
    assert "Python 3.11 or newer" in machine.install(status=1, PYTHON="false")
