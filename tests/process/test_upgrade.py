"""SIGUSR2: an upgrade to new code without a dropped call, as under systemd."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.process import kernel
from tests.process.fake_chutes_control import ROOT, Upstream, directive
from tests.process.server import GUNICORN, Proxy, clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "ridges-ai-proxy", "ridges-ai-proxy-of-the-new-release"


def release(folder: Path, service: str) -> None:
    """Copy the project, with another service name in `/health`."""
    folder.mkdir(parents=True)
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "ridges_proxy", folder / "ridges_proxy")
    page = folder / "ridges_proxy" / "web" / "routes" / "health.py"
    page.write_text(page.read_text().replace(f'"{OLD}"', f'"{service}"'))


def point(link: Path, target: Path) -> None:
    """Replace a symbolic link in one step."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket for the notifications to systemd."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


@pytest.fixture
def proxy(fake_chutes: Upstream, tmp_path: Path, notices: socket.socket) -> Iterator[Proxy]:
    assert notices
    release(tmp_path / "releases" / "1", OLD)
    release(tmp_path / "releases" / "2", NEW)
    current = tmp_path / "current"
    point(current, tmp_path / "releases" / "1")
    environ = clean_environment(
        fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", WORKERS="2", GRACEFUL_TIMEOUT_SECONDS="40"
    )
    environ |= {"PWD": str(current), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    command = [
        sys.executable,
        GUNICORN,
        "wsgi:app",
    ]  # as in the systemd unit, so that the new server starts the Python of its own release
    with Proxy(None, command=command, folder=current, environ=environ) as started:
        yield started


def service_of(proxy: Proxy) -> str:
    name: str = proxy.ask("GET", "/health").json["service"]
    return name


def new_master(proxy: Proxy) -> list[int]:
    """The masters that the old master has started: its children with children."""
    return [pid for pid in kernel.children(proxy.pid) if kernel.children(pid)]


def notice_with(notices: socket.socket, word: str) -> str:
    """Wait for a notification that contains a word."""
    while True:
        notice = notices.recv(4096).decode()
        if word in notice:
            return notice


def assert_a_broken_release_leaves_the_old_one_serving(proxy: Proxy, folder: Path) -> None:
    broken = folder / "releases" / "broken"
    broken.mkdir()
    (broken / "gunicorn.conf.py").write_text("import sys\nsys.exit('broken on purpose')\n")
    point(folder / "current", broken)
    before = proxy.workers()
    proxy.signal(Signals.SIGUSR2)
    wait_until(lambda: "broken on purpose" in proxy.lines.raw, "the error of the new release")
    wait_until(lambda: proxy.workers() == before, "no process of the new release")
    assert service_of(proxy) == OLD
    proxy.lines.raw.remove("broken on purpose")


def test_new_code_serves_while_old_calls_end_without_a_dropped_call(
    proxy: Proxy, chutes: Upstream, tmp_path: Path, notices: socket.socket
) -> None:
    notice_with(notices, "READY=1")
    assert service_of(proxy) == OLD
    assert_a_broken_release_leaves_the_old_one_serving(proxy, tmp_path)
    over = threading.Event()
    statuses: list[int] = []

    def call_until_over() -> None:
        while not over.is_set():
            statuses.append(proxy.infer(uuid.uuid4().hex).status)

    with ThreadPoolExecutor(5) as pool:
        long_call = pool.submit(proxy.infer, "long", directive(gate="upgrade"))
        chutes.wait(at_gate=1)
        callers = [pool.submit(call_until_over) for _ in range(3)]
        point(tmp_path / "current", tmp_path / "releases" / "2")
        proxy.signal(Signals.SIGUSR2)
        (master,) = {int(notice_with(notices, "MAINPID=").partition("=")[2])}
        wait_until(lambda: service_of(proxy) == NEW, "the new release")
        assert new_master(proxy) == [master]
        chutes.release("upgrade")
        assert long_call.result().status == 200
        wait_until(lambda: proxy.lines.matching(event="stopped") != [], "the end of the old server")
        over.set()
        for caller in callers:
            caller.result()
    assert set(statuses) == {200}
    assert len(statuses) > 3
    assert {service_of(proxy) for _ in range(5)} == {NEW}
    assert proxy.usage("long").calls == 1
    os.kill(master, Signals.SIGTERM)
    wait_until(lambda: len(proxy.lines.matching(event="stopped")) == 2, "the end of the new server")
