"""Starting: what is refused, and in which words."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import Run, SqliteLedger
from ridges_proxy.ledger.sqlite.database import PAGE_BYTES
from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.process.server import Proxy, clean_environment, failed_start
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

ONE_WORKER = "memory:// allows only 1 worker"


def assert_refused(done: tuple[int, str], *sentences: str) -> None:
    status, said = done
    assert status != 0
    for sentence in sentences:
        assert sentence in said
    assert "Traceback" not in said
    assert said.count("\n") <= len(sentences) + 1


def test_all_missing_keys_are_named_at_once() -> None:
    assert_refused(
        failed_start(CHUTES_API_KEY="", PROXY_API_KEY="", MAX_COST_PER_RUN="lots"),
        "CHUTES_API_KEY is required",
        "PROXY_API_KEY is required",
        "MAX_COST_PER_RUN is not an amount",
    )


def test_a_second_worker_by_setting_is_refused() -> None:
    assert_refused(failed_start(WORKERS="2"), "WORKERS must be 1 with LEDGER_URL=memory://")


@pytest.mark.parametrize("flags", [["-w", "2"], ["--workers=3"]])
def test_a_second_worker_by_flag_is_refused(flags: list[str]) -> None:
    assert_refused(failed_start(*flags), ONE_WORKER)


def test_a_second_worker_by_gunicorns_own_variable_is_refused() -> None:
    assert_refused(failed_start(GUNICORN_CMD_ARGS="--workers 2"), ONE_WORKER)


def test_python_m_gunicorn_starts_it_too(fake_chutes: Upstream, run: str) -> None:
    with Proxy(fake_chutes, command=[sys.executable, "-m", "gunicorn", "wsgi:app"]) as proxy:
        assert proxy.infer(run).status == 200
        assert len(proxy.workers()) == 1
        assert proxy.stop() == 0


@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT])
def test_it_stops_at_a_signal_with_nothing_in_flight(fake_chutes: Upstream, number: Signals) -> None:
    with Proxy(fake_chutes) as proxy:
        workers = proxy.workers()
        assert proxy.stop(number) == 0
        assert not any(map(kernel.alive, workers))


def test_ctrl_c_in_a_terminal_reaches_the_workers_too_and_leaves_no_traceback(
    fake_chutes: Upstream,
) -> None:
    with Proxy(fake_chutes) as proxy:
        for worker in proxy.workers():
            os.kill(worker, Signals.SIGINT)
        assert proxy.stop(Signals.SIGINT) == 0


def test_importing_the_app_starts_nothing() -> None:
    """The command line imports it too."""
    code = "import os, threading, wsgi; print(threading.active_count(), len(os.listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(None),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1"]
    assert done.stderr == ""


def test_the_limit_of_open_files_is_raised_to_what_the_system_allows(fake_chutes: Upstream) -> None:
    # The usual 1,024 are used up by 500 calls.
    command = ["bash", "-c", f"ulimit -Sn 256; exec {sys.executable} -m gunicorn wsgi:app"]
    with Proxy(fake_chutes, command=command) as proxy:
        limits = Path(f"/proc/{proxy.workers()[0]}/limits").read_text()
        soft, hard = re.findall(r"Max open files +(\d+) +(\d+)", limits)[0]
        assert soft == hard != "256"


def test_a_limit_of_open_files_that_is_too_low_is_told(fake_chutes: Upstream) -> None:
    command = ["bash", "-c", f"ulimit -n 1024; exec {sys.executable} -m gunicorn wsgi:app"]
    with Proxy(fake_chutes, command=command) as proxy:
        (line,) = proxy.lines.wait(event="the limit of open files is too low for MAX_CONCURRENT_CALLS")
        assert (line["limit"], line["needed"]) == (1024, 6000)


def test_a_redis_that_may_forget_is_warned_of(fake_chutes: Upstream) -> None:
    with RedisServer() as server, Proxy(fake_chutes, LEDGER_URL=server.url) as proxy:
        (line,) = proxy.lines.wait(event="the ledger's store has a problem")
        assert line["level"] == "WARNING"
        assert "appendonly is off" in line["detail"]


@pytest.mark.parametrize("index", [False, True], ids=["a table", "an index"])
def test_a_ledger_whose_disk_has_lost_a_page_of_it_is_refused(tmp_path: Path, *, index: bool) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path, run_ttl_seconds=60)
    for number in range(100):
        ledger.close(Run(f"run-{number}", 1))
    ledger.maintain()
    with closing(sqlite3.connect(path)) as connection:
        kind = "index" if index else "table"
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE type = ? AND tbl_name = 'runs'", (kind,)
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    said = failed_start(LEDGER_URL=f"sqlite:///{path}")
    assert_refused(said, "The ledger cannot be opened: ")
    assert re.search(f"{path} is damaged|cannot use {path}: database disk image is malformed", said[1])


def test_a_ledger_that_does_not_open_is_refused_and_said_why(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this was a database once, before the disk took it" * 99)
    assert_refused(
        failed_start(LEDGER_URL=f"sqlite:///{damaged}"),
        "The ledger cannot be opened",
        "file is not a database",
    )
    assert_refused(failed_start(LEDGER_URL=f"sqlite:///{tmp_path}/nowhere/ledger.db"), "there is no folder")
    nobody = failed_start(LEDGER_URL=f"redis://:hidden-password@127.0.0.1:{free_port()}")
    assert_refused(nobody, "The ledger cannot be opened: redis://127.0.0.1:", "does not answer")
    assert "hidden" not in nobody[1]
