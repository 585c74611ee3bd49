"""The systemd units: their syntax, and a server that runs within their restrictions and on their socket."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from http.client import HTTPConnection
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ridges_proxy.server.drain import CUT_SECONDS, EXIT_SECONDS
from ridges_proxy.server.gunicorn_settings import KEEPALIVE_SECONDS
from tests.process.fake_chutes_control import ROOT, Upstream
from tests.process.server import GUNICORN, Proxy, clean_environment, wait_until
from tests.support.app import settings_of
from tests.support.missing import missing
from tests.support.ports import free_port

DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "ridges-proxy.service").read_text()
SOCKET = (DEPLOY / "ridges-proxy.socket").read_text()
README = (DEPLOY / "README.md").read_text()

NEW_KEYS = ("'RestartSteps'", "'RestartMaxDelaySec'")
"""Since systemd 254. Older ones ignore them, and say so."""

PR_SET_MDWE = 65
"""The `prctl` option behind MemoryDenyWriteExecute=, since Linux 6.3."""


def program(name: str, package: str) -> str:
    return shutil.which(name) or missing(name, f"apt install {package}")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The shipped units, with the commands of this checkout."""
    shutil.copy(DEPLOY / "ridges-proxy.socket", tmp_path)
    path = tmp_path / "ridges-proxy.service"
    path.write_text(
        UNIT.replace("/opt/ridges-proxy/current/deploy/", f"{DEPLOY}/").replace(
            "/opt/ridges-proxy/current/.venv/bin/", f"{Path(sys.executable).parent}/"
        )
    )
    return path


def settings_of_unit(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_systemd_accepts_the_units(unit: Path) -> None:
    result = subprocess.run(
        [program("systemd-analyze", "systemd"), "verify", unit, unit.with_suffix(".socket")],
        capture_output=True,
        text=True,
        check=False,
    )
    problems = [line for line in result.stderr.splitlines() if not any(key in line for key in NEW_KEYS)]
    assert (result.returncode, problems) == (0, [])


def test_the_exposure_of_the_unit_is_at_most_what_the_readme_states(unit: Path) -> None:
    (stated,) = re.findall(r"exposure level of (\d\.\d)", README)
    result = subprocess.run(
        [program("systemd-analyze", "systemd"), "security", "--offline=true", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for ridges-proxy.service: (\d+\.\d)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found[1]) <= float(stated)


def test_a_stop_waits_for_the_longest_call() -> None:
    shipped = dotenv_values(DEPLOY / "production.env")
    grace = int(shipped["GRACEFUL_TIMEOUT_SECONDS"] or 0)
    defaults = settings_of()
    longest = KEEPALIVE_SECONDS + defaults.hold_wait_seconds + defaults.deadline_seconds
    assert grace - CUT_SECONDS > longest
    (stop,) = settings_of_unit("TimeoutStopSec")
    assert int(stop) > grace + EXIT_SECONDS


def test_neither_a_worker_without_memory_nor_failed_starts_end_the_service() -> None:
    assert settings_of_unit("OOMPolicy") == ["continue"]
    assert settings_of_unit("StartLimitIntervalSec") == ["0"]
    assert "\nTriggerLimitIntervalSec=0\n" in SOCKET


def test_the_service_reads_the_files_that_the_installation_writes() -> None:
    environ = dict(each.split("=", 1) for each in " ".join(settings_of_unit("Environment")).split())
    assert environ["SETTINGS_FILE"] == "/etc/ridges-proxy/env"
    assert environ["CREDENTIALS_DIRECTORY"] == "/etc/ridges-proxy/keys"
    assert settings_of_unit("RestartKillSignal") == ["SIGUSR2"]


def test_the_launcher_starts_the_release_of_its_own_path(tmp_path: Path) -> None:
    """Not by the link `current`: it may point to another release later."""
    commands = tmp_path / "releases/1/.venv/bin"
    commands.mkdir(parents=True)
    launcher = tmp_path / "releases/1/deploy/serve"
    launcher.parent.mkdir()
    shutil.copy(DEPLOY / "serve", launcher)
    (commands / "python").symlink_to("/bin/echo")
    (tmp_path / "current").symlink_to("releases/1")
    done = subprocess.run([tmp_path / "current/deploy/serve"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{commands}/ridges-proxy serve\n"


def test_the_server_starts_on_the_socket_of_systemd(fake_chutes: Upstream, tmp_path: Path) -> None:
    port = free_port()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("CHUTES_API_KEY", "PROXY_API_KEY"):
        (credentials / name).write_text(f"{name}-of-systemd\n")
    environ = clean_environment(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", PORT="1")
    environ |= {"CREDENTIALS_DIRECTORY": str(credentials)}
    command = [
        program("systemd-socket-activate", "systemd"),
        f"--listen=127.0.0.1:{port}",
        *(f"--setenv={name}={value}" for name, value in environ.items()),
        sys.executable,
        GUNICORN,
        "wsgi:app",
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "an answer at the socket's port")
        assert _models(port, "PROXY_API_KEY-of-systemd") == 200
        assert _models(port, "proxy-key-of-the-tests") == 401
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _answers(port: int) -> bool:
    try:
        return _models(port, "") == 401
    except OSError:
        return False


def _models(port: int, key: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_server_needs_no_memory_that_is_writable_and_executable(fake_chutes: Upstream) -> None:
    assert settings_of_unit("MemoryDenyWriteExecute") == ["yes"]
    probe = f"import ctypes; raise SystemExit(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0))"
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE (added in Linux 6.3)")
    wrapper = (
        f"import ctypes, os, sys; assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) == 0;"
        " os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", wrapper, sys.executable, GUNICORN, "wsgi:app"]
    with Proxy(fake_chutes, command=command, RUN_TOKEN_KEY="k" * 32) as proxy:
        assert proxy.infer(uuid.uuid4().hex).status == 200
        assert proxy.embed(uuid.uuid4().hex).status == 200


def syscalls_of(group: str) -> set[str]:
    """Return the system calls of a filter's group, including those of nested groups."""
    result = subprocess.run(
        [program("systemd-analyze", "systemd"), "syscall-filter", group],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.strip() for line in result.stdout.splitlines()[1:] if line.strip() and "#" not in line}
    groups = {name for name in names if name.startswith("@")}
    return (names - groups).union(*(syscalls_of(name) for name in groups))


def test_the_server_makes_no_system_call_that_the_filter_denies(
    fake_chutes: Upstream, tmp_path: Path
) -> None:
    assert settings_of_unit("SystemCallFilter") == ["@system-service", "~@privileged"]
    trace = tmp_path / "trace"
    # -D: the server stays a direct child of the test, so that it receives the test's signals.
    strace = [program("strace", "strace"), "-D", "-f", "-qq", "-o", str(trace)]
    if subprocess.run([*strace, "true"], check=False).returncode:
        pytest.skip("this machine does not allow tracing")
    command = [*strace, sys.executable, GUNICORN, "wsgi:app"]
    environ = clean_environment(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", WORKERS="2")
    with Proxy(None, command=command, environ=environ) as proxy:
        assert proxy.infer(uuid.uuid4().hex).status == 200
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"execve", "epoll_wait", "sendto"} & used
    if os.geteuid() == 0:
        used.discard("fchown")  # SQLite calls it only as root
    assert used - (syscalls_of("@system-service") - syscalls_of("@privileged")) == set()
