"""Servers whose shared memory is full, not writable, shared with other PID namespaces, or vanishes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest
import requests

from ridges_proxy.runtime.shared_memory import OWNER_LOCK
from tests.process.server import GUNICORN, Proxy, clean_environment, wait_until
from tests.process.test_metrics import MODEL, folders_of, increase, scrape
from tests.support.app import ADMIN_KEY, OPERATOR
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

OK_CALLS = ("ridges_requests_total", "ok", MODEL, "/agents/inference")
SERVE = f'exec "{GUNICORN}" wsgi:app'
FULL = "mount -t tmpfs -o size=16k tmpfs /dev/shm && ! cat /dev/zero >/dev/shm/other 2>/dev/null"
NEARLY_FULL = "mount -t tmpfs -o size=96k tmpfs /dev/shm"
READ_ONLY = "mount -t tmpfs -o ro tmpfs /dev/shm"
MISSING = (
    "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
    " && ln -s /proc/self/fd /dev/fd"
)
"""An empty /dev, but for the devices that Python needs."""


@contextmanager
def namespaced(fake_chutes: Upstream, first: str, *options: str, **settings: str) -> Iterator[Proxy]:
    """A server in a mount namespace of its own, after a command of the shell that changes it."""
    unshare = ["unshare", "--mount", *options]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        missing("unshare", "apt install util-linux; it needs root")
    environ = clean_environment(fake_chutes, **settings)
    with Proxy(None, command=[*unshare, "sh", "-c", f"{first} && {SERVE}"], environ=environ) as proxy:
        yield proxy
        if "--fork" in options:
            proxy.stop(Signals.SIGKILL)  # unshare ignores SIGTERM while it waits for its child


def dashboard_of(proxy: Proxy) -> str:
    """Sign in to the dashboard, and return its page of all runs."""
    url = f"http://127.0.0.1:{proxy.port}/dashboard"
    with requests.Session() as browser:
        form = browser.get(f"{url}/sign-in", timeout=20).text
        token = re.search(r'name="csrf_token" value="([^"]+)"', form)
        assert token
        page = browser.post(f"{url}/sign-in", {"key": ADMIN_KEY, "csrf_token": token[1]}, timeout=20)
        assert (page.status_code, page.url) == (200, url)
        return page.text


@pytest.mark.parametrize("first", [FULL, NEARLY_FULL], ids=["full", "nearly-full"])
def test_a_full_shared_memory_costs_metrics_and_no_calls(
    fake_chutes: Upstream, first: str, run: str, tmp_path: Path
) -> None:
    with namespaced(fake_chutes, first, WORKERS="2", LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db") as proxy:
        assert [proxy.infer(run).status for _ in range(20)] == [200] * 20
        wait_until(
            lambda: proxy.lines.matching(event="metrics are not shared by the workers") != [], "a warning"
        )
        state = proxy.ready()
        assert state.status == 200
        degraded = state.json["degraded"]
        assert degraded.keys() <= {"metrics", "learned_counts", "history", "recent_calls"}
        assert degraded.keys() >= {"metrics", "learned_counts"}
        assert set(degraded.values()) == {"No space left on device"}
        assert 1 <= scrape(proxy)[OK_CALLS] <= 20
        assert run in dashboard_of(proxy)
        assert len(proxy.workers()) == 2
        assert len(proxy.lines.matching(event="worker ready")) == 2, "no worker was started again"


@pytest.mark.parametrize("first", [READ_ONLY, MISSING], ids=["read-only", "missing"])
def test_without_shared_memory_the_workers_share_a_temporary_folder(
    fake_chutes: Upstream, first: str, run: str, tmp_path: Path
) -> None:
    settings = {"WORKERS": "2", "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db", "TMPDIR": str(tmp_path)}
    with namespaced(fake_chutes, first, **settings) as proxy:
        assert [proxy.infer(run).status for _ in range(20)] == [200] * 20
        assert proxy.ready().json["degraded"] == {}
        assert scrape(proxy)[OK_CALLS] == 20
        assert list(tmp_path.glob("ridges-metrics-*"))
    assert not list(tmp_path.glob("ridges-metrics-*"))


def test_a_worker_starts_where_no_more_file_can_be_made(
    fake_chutes: Upstream, run: str, tmp_path: Path
) -> None:
    few_files = "mount -t tmpfs -o nr_inodes=24 tmpfs /dev/shm"
    with namespaced(fake_chutes, few_files, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db") as proxy:
        folder = Path(f"/proc/{proxy.pid}/root/dev/shm")
        with suppress(OSError):
            for number in range(24):
                (folder / str(number)).touch()
        os.kill(proxy.workers()[0], Signals.SIGKILL)
        proxy.lines.wait(2, event="worker ready")
        assert proxy.infer(run).status == 200
        wait_until(lambda: proxy.ready().json["degraded"].get("metrics") is not None, "the reason")


def test_a_server_in_another_pid_namespace_removes_no_folder_in_use(
    fake_chutes: Upstream, run: str, tmp_path: Path
) -> None:
    first = Proxy(fake_chutes, WORKERS="2", LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db")
    with first:
        (folder,) = folders_of(first)
        made = Path(folder).stat()
        with namespaced(fake_chutes, "true", "--pid", "--fork", "--kill-child", "--mount-proc"):
            assert first.infer(run).status == 200
        assert os.path.samestat(made, Path(folder).stat()), "it was not made again"
        assert scrape(first)[OK_CALLS] == 1
        old = set(first.workers())
        first.signal(Signals.SIGHUP)
        wait_until(lambda: len(first.workers()) == 2 and not old & set(first.workers()), "the new workers")
        assert first.infer(run).status == 200
        assert scrape(first)[OK_CALLS] == 2


def test_a_folder_that_vanishes_is_made_again_with_its_counts(
    fake_chutes: Upstream, run: str, tmp_path: Path
) -> None:
    with Proxy(fake_chutes, WORKERS="2", LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db") as proxy:
        assert [proxy.infer(run).status for _ in range(20)] == [200] * 20
        (folder,) = folders_of(proxy)
        shutil.rmtree(folder)
        assert run in dashboard_of(proxy)
        assert proxy.infer(run).status == 200
        assert proxy.ask("GET", "/metrics", None, OPERATOR).status == 200
        # Until there is a folder, a worker that took all calls shows its own counts.
        wait_until(Path(folder).exists, "the folder")
        wait_until(lambda: scrape(proxy).get(OK_CALLS) == 21, "the counts of both workers")
        old = set(proxy.workers())
        proxy.signal(Signals.SIGHUP)
        wait_until(lambda: len(proxy.workers()) == 2 and not old & set(proxy.workers()), "the new workers")
        assert proxy.infer(run).status == 200
        assert scrape(proxy)[OK_CALLS] == 22
        lock = Path(folder, OWNER_LOCK)
        opened = Path(f"/proc/{proxy.pid}/fd").iterdir()
        assert [each for each in opened if each.exists() and each.samefile(lock)], "the master holds it"


def test_the_files_of_workers_that_ended_are_folded_into_one(
    fake_chutes: Upstream, run: str, tmp_path: Path
) -> None:
    with Proxy(fake_chutes, WORKERS="2", LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db") as proxy:
        before = scrape(proxy)
        (folder,) = folders_of(proxy)
        for kill in (Signals.SIGKILL, Signals.SIGTERM, Signals.SIGKILL):
            assert [proxy.infer(run).status for _ in range(10)] == [200] * 10
            old = proxy.workers()[0]
            os.kill(old, kill)
            wait_until(lambda old=old: len({*proxy.workers()} - {old}) == 2, "a new worker")  # type: ignore[misc] # the default has no type
        wait_until(lambda: len(list(Path(folder).glob("counter_*.db"))) <= 3, "one file for those that ended")
        assert Path(folder, "counter_gone.db").exists()
        added = increase(before, scrape(proxy))
        assert added[OK_CALLS] == 30
        assert added["ridges_call_seconds_count", MODEL, "/agents/inference"] == 30
