"""Starts of the server: accepted, and refused with their reasons."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.ledger import LedgerOpeningError, Run, SqliteLedger
from ridges_proxy.ledger.factory import check_ledger_store
from ridges_proxy.ledger.sqlite.database import PAGE_BYTES
from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.process.server import Proxy, clean_environment, failed_start, wait_until
from tests.support.app import settings_of
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows, each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

ONE_WORKER = "memory:// allows only 1 worker"
PASSWORD = "password-of-the-ledger"

REFUSED_STARTS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "all problems at once": (
        [],
        {"CHUTES_API_KEY": "", "PROXY_API_KEY": "", "MAX_COST_PER_RUN": "lots"},
        ["CHUTES_API_KEY is required", "PROXY_API_KEY is required", "MAX_COST_PER_RUN is not an amount"],
    ),
    "a second worker by the setting": (
        [],
        {"WORKERS": "2"},
        ["WORKERS must be 1 with LEDGER_URL=memory://"],
    ),
    "a second worker by a flag": (["-w", "2"], {}, [ONE_WORKER]),
    "a second worker by gunicorn's variable": ([], {"GUNICORN_CMD_ARGS": "--workers 2"}, [ONE_WORKER]),
    "no Redis": (
        [],
        {"LEDGER_URL": f"redis://:{PASSWORD}@127.0.0.1:{{port}}"},
        [
            "The ledger cannot be opened: redis://127.0.0.1:",
            "cannot be used: it refuses connections, or it does not run",
        ],
    ),
}
"""Flags, settings, and the sentences of the output."""


def test_a_refused_start_prints_its_reasons() -> None:
    port = str(free_port())

    def start(name: str) -> tuple[int, str]:
        flags, settings, _ = REFUSED_STARTS[name]
        values = {key: value.replace("{port}", port) for key, value in settings.items()}
        return failed_start(*flags, **values)

    with ThreadPoolExecutor(2) as pool:
        starts = {name: pool.submit(start, name) for name in REFUSED_STARTS}

    def check(name: str) -> None:
        status, output = starts[name].result()
        sentences = REFUSED_STARTS[name][2]
        assert status != 0
        assert [sentence for sentence in sentences if sentence not in output] == []
        assert "Traceback" not in output
        assert PASSWORD not in output
        assert output.count("\n") <= len(sentences) + 1

    check_rows(starts, check)


def file_limits(pid: int) -> tuple[str, str]:
    """The soft and the hard limit of open files of a process."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    ((soft, hard),) = re.findall(r"Max open files +(\d+) +(\d+)", limits)
    return soft, hard


def test_python_m_gunicorn_serves_raises_the_limit_of_open_files_and_stops_at_sigterm(
    fake_chutes: Upstream, run: str
) -> None:
    # 500 calls exceed the usual limit of 1,024 open files.
    command = ["bash", "-c", f"ulimit -Sn 256; exec {sys.executable} -m gunicorn wsgi:app"]
    with Proxy(fake_chutes, command=command) as proxy:
        assert proxy.infer(run).status == 200
        (worker,) = proxy.workers()
        soft, hard = file_limits(worker)
        assert soft == hard != "256"
        assert proxy.stop(Signals.SIGTERM) == 0
        assert not kernel.alive(worker)


def test_a_start_logs_what_is_wrong_with_the_system_and_sigint_stops_it(fake_chutes: Upstream) -> None:
    command = ["bash", "-c", f"ulimit -n 1024; exec {sys.executable} -m gunicorn wsgi:app"]
    with RedisServer() as server, Proxy(fake_chutes, command=command, LEDGER_URL=server.url) as proxy:
        (line,) = proxy.lines.wait(event="the limit of open files is too low for MAX_CONCURRENT_CALLS")
        assert (line["limit"], line["needed"]) == (1024, 6000)
        (line,) = proxy.lines.wait(event="the ledger's store has a problem")
        assert line["level"] == "WARNING"
        assert "appendonly is off" in line["detail"]
        workers = proxy.workers()
        assert proxy.stop(Signals.SIGINT) == 0
        assert not any(map(kernel.alive, workers))


def test_ctrl_c_in_a_terminal_also_reaches_the_workers_and_leaves_no_traceback(
    fake_chutes: Upstream,
) -> None:
    with Proxy(fake_chutes) as proxy:
        for worker in proxy.workers():
            os.kill(worker, Signals.SIGINT)
        assert proxy.stop(Signals.SIGINT) == 0


SIGNALS_ITSELF_LATE = """
import os, signal
from gunicorn.app.wsgiapp import run

class Last:
    def __init__(self):
        self.names = os.getpid, os.kill, os.getpid()  # the module's own names are gone by then

    def __del__(self):
        own_pid, kill, master = self.names
        if own_pid() == master:  # not in a worker
            kill(master, {number})

last = Last()
run()
"""
"""A master that sends itself a signal while the interpreter ends: handlers are gone by then."""


@each_row("number", [Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGHUP, Signals.SIGUSR2])
def test_a_signal_to_a_server_that_has_stopped_keeps_its_exit_status(
    fake_chutes: Upstream, number: Signals
) -> None:
    command = [sys.executable, "-c", SIGNALS_ITSELF_LATE.format(number=int(number)), "wsgi:app"]
    with Proxy(fake_chutes, command=command) as proxy:
        assert proxy.stop(Signals.SIGTERM) == 0


STOPS_ITS_FIRST_WORKER = """\
import os, signal
exec(compile(open({path!r}).read(), {path!r}, "exec"))

def post_fork(server, worker):
    if worker.age == 1:
        os.kill(os.getpid(), signal.SIGTERM)
"""
"""A server whose first worker gets a signal to stop before it has handlers of its own."""


def test_a_worker_that_is_told_to_stop_while_it_starts_stops(fake_chutes: Upstream, tmp_path: Path) -> None:
    configuration = tmp_path / "configuration.py"
    configuration.write_text(STOPS_ITS_FIRST_WORKER.format(path=str(ROOT / "gunicorn.conf.py")))
    with Proxy(fake_chutes, "-c", str(configuration)) as proxy:
        first, second = (line["pid"] for line in proxy.lines.wait(2, event="worker ready"))
        wait_until(lambda: proxy.workers() == [second], "the end of the first worker")
        assert first != second


def test_no_code_is_loaded_from_the_current_folder(fake_chutes: Upstream, tmp_path: Path) -> None:
    for name in ("flask", "gevent", "ridges_proxy", "wsgi"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of the current folder')")
    command = [str(Path(sys.executable).with_name("ridges-proxy")), "serve"]
    with Proxy(fake_chutes, command=command, folder=tmp_path) as proxy:
        assert proxy.ready().status == 200


def test_importing_the_app_starts_nothing() -> None:
    """The command line imports the app, too."""
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


@each_row("kind", ["table", "index"])
def test_a_ledger_with_a_damaged_page_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.db"
    ledger = SqliteLedger(path, run_ttl_seconds=60)
    for number in range(100):
        ledger.close(Run(f"run-{number}", 1))
    ledger.maintain()
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE type = ? AND tbl_name = 'runs'", (kind,)
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    message = f"{path} is damaged|cannot use {path}: database disk image is malformed"
    with pytest.raises(LedgerOpeningError, match=message):
        check_ledger_store(settings_of(LEDGER_URL=f"sqlite:///{path}"))


def test_a_ledger_that_is_no_database_or_has_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no SQLite database, but as large as one" * 99)
    for path, message in (
        (tmp_path / "ledger.db", "file is not a database"),
        (tmp_path / "missing" / "ledger.db", "there is no folder"),
    ):
        with pytest.raises(LedgerOpeningError, match=message):
            check_ledger_store(settings_of(LEDGER_URL=f"sqlite:///{path}"))
