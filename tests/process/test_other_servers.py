"""Starting the app with commands other than `ridges-proxy serve`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from signal import Signals
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

import click
from click.testing import CliRunner
from flask.cli import cli as flask_cli

from ridges_proxy import create_app
from ridges_proxy.cli.main import main
from ridges_proxy.runtime.shared_memory import shared_memory_folder
from ridges_proxy.server.metrics_folder import METRICS_PREFIX
from tests.process import kernel
from tests.process.fake_chutes_control import ROOT
from tests.process.server import GUNICORN, Proxy, clean_environment, wait_until
from tests.process.wire import PATIENCE_SECONDS
from tests.support.app import ADMIN_KEY, environ_of, settings_of
from tests.support.ports import free_port
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest

    from tests.process.fake_chutes_control import Upstream

APP = "ridges_proxy:create_app()"
FLASK = str(Path(sys.executable).with_name("flask"))
MODULE = [sys.executable, "-m", "ridges_proxy"]
START_SECONDS = 100.0
TIMED = {"request", "draining"}
"""Log events whose number depends on the speed of the machine."""


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the library
        """Write no line for a request."""


def run_command(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it ends by itself."""
    return subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), **clean_environment(None), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def empty_environment() -> dict[str, str]:
    """Return an environment without settings."""
    return {"PATH": clean_environment(None)["PATH"], "PYTHONPATH": str(ROOT)}


def test_another_server_refuses_to_start_and_names_the_right_command(tmp_path: Path) -> None:
    several_workers = [GUNICORN, "-w", "2", APP]
    commands = [
        several_workers,
        [GUNICORN, "-w", "1", "-k", "gevent", APP],
        [FLASK, "--app", APP, "run"],
        [FLASK, "--app", APP, "--debug", "run"],
    ]
    ports = [free_port() for _ in commands]

    def start(command: list[str], port: int) -> subprocess.CompletedProcess[str]:
        address = ["--bind", f"127.0.0.1:{port}"] if command[0] == GUNICORN else ["--port", str(port)]
        return run_command(tmp_path, *command, *address)

    def check(row: tuple[list[str], int, subprocess.CompletedProcess[str]]) -> None:
        command, port, done = row
        assert done.returncode > 0
        assert "`ridges-proxy serve`" in done.stdout
        if command is not several_workers:  # if several workers fail at once, gunicorn prints a traceback
            assert "Traceback" not in done.stdout
        assert "ridges_proxy/" not in done.stdout, "a traceback of this package"
        assert "Booting worker" not in done.stdout.rpartition("`ridges-proxy serve`")[2], "a second start"
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0, "a server listens"

    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(start, commands, ports))
    check_rows(zip(commands, ports, ended, strict=True), check)


def test_a_checkout_and_the_command_start_the_same_server(fake_chutes: Upstream, tmp_path: Path) -> None:
    """`serve` reads its settings from the .env file of the current folder, the checkout its environment."""
    settings = {
        **environ_of(MAX_COST_PER_RUN="0.125"),
        "CHUTES_BASE_URL": fake_chutes.chat_url,
        "CHUTES_EMBEDDING_URL": fake_chutes.embed_url,
        "HOST": "127.0.0.1",
        "PORT": "0",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def events_of(proxy: Proxy) -> Counter[tuple[str, str]]:
        with proxy:
            usage = proxy.ask("GET", "/agents/usage?run_id=a-run")
            assert usage.json["max_cost_usd"] == 0.125
            assert proxy.stop() == 0
        lines = proxy.lines.matching()
        return Counter((line["event"], line["level"]) for line in lines if line["event"] not in TIMED)

    proxies = [
        Proxy(fake_chutes, MAX_COST_PER_RUN="0.125"),
        Proxy(None, command=[*MODULE, "serve"], folder=tmp_path, environ=empty_environment()),
    ]
    with ThreadPoolExecutor() as pool:
        checkout, serve = pool.map(events_of, proxies)

    assert checkout == serve
    assert {"listening", "worker ready", "stopped"} <= {event for event, _ in serve}


def test_another_command_named_run_may_load_the_app() -> None:
    @click.command("run")
    def command() -> None:
        create_app(settings_of())
        click.echo("loaded")

    assert CliRunner().invoke(command).stdout == "loaded\n"


def test_a_server_without_background_tasks_logs_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Only a real server does: the client of the tests sends requests first."""
    app = create_app(settings_of())
    assert app.test_client().get("/health").status_code == 200
    assert "background tasks" not in capsys.readouterr().err

    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            for _ in range(2):
                with closing(HTTPConnection("127.0.0.1", server.server_port)) as connection:
                    connection.request("GET", "/health")
                    assert connection.getresponse().status == 200
        finally:
            server.shutdown()
            thread.join()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (error,) = (line for line in lines if line["level"] == "ERROR")
    assert error["event"].startswith("the background tasks were not started: ")
    assert error["server"].startswith("WSGIServer/")
    assert "`ridges-proxy serve`" in error["detail"]


def test_a_checkout_can_be_started_as_a_daemon(tmp_path: Path) -> None:
    pid_file, port = tmp_path / "pid", free_port()
    started = run_command(ROOT, GUNICORN, "--daemon", "--pid", str(pid_file), "wsgi:app", PORT=str(port))
    assert (started.returncode, started.stdout) == (0, "")

    def answers() -> bool:
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        return False

    wait_until(pid_file.exists, "a PID file")
    master = int(pid_file.read_text())
    try:
        wait_until(answers, "readiness")
        (worker,) = kernel.children(master)
        folders = list(shared_memory_folder().glob(f"{METRICS_PREFIX}-{master}-*"))
        assert [list(folder.glob("*.db")) != [] for folder in folders] == [True], "the worker's metrics"
        os.kill(master, Signals.SIGTERM)
        wait_until(lambda: not pid_file.exists(), "the end of the master")
        wait_until(lambda: not folders[0].exists(), "the end of its folder")
        assert not kernel.alive(worker)
        assert not answers()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(master), Signals.SIGKILL)


def test_the_commands_of_flask_print_the_same_as_the_script(
    shared_proxy: Proxy, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success is checked in two processes. The failures are checked in this one, which is faster."""
    assert shared_proxy.infer(run).status == 200
    url = f"http://127.0.0.1:{shared_proxy.port}"
    arguments = ["spend", "list", "--json", "--search", run]
    settings = {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}

    def in_a_process(command: list[str]) -> tuple[int, str]:
        done = run_command(tmp_path, *command, *arguments, **settings)
        return done.returncode, done.stdout.partition(', "idle_seconds"')[0]

    with ThreadPoolExecutor() as pool:
        flask_result, script_result = pool.map(in_a_process, ([FLASK], MODULE))
    assert flask_result == script_result
    assert script_result[0] == 0
    assert run in script_result[1]

    monkeypatch.chdir(tmp_path)  # without the .env file of a checkout
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "")  # flask's command sets it: restored after the test
    failures = [
        (2, {"ADMIN_API_KEY": ""}),
        (3, {"PROXY_URL": f"http://127.0.0.1:{free_port()}"}),
        (4, {"ADMIN_API_KEY": "wrong"}),
    ]

    def check(row: tuple[int, dict[str, str]]) -> None:
        status, changed = row
        environ: dict[str, str | None] = {**clean_environment(None), **settings, **changed}
        results = [
            CliRunner().invoke(command, arguments, env=environ, prog_name="a-command")
            for command in (flask_cli, main)
        ]
        assert [result.exit_code for result in results] == [status, status]
        assert results[0].output == results[1].output != ""
        assert run not in results[0].output

    check_rows(failures, check)


def test_the_demo_does_not_read_the_dotenv_file_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_COST_PER_RUN=lots\nPORT\n")
    with ThreadPoolExecutor() as pool:
        serve = pool.submit(run_command, tmp_path, *MODULE, "serve")
        command = [*MODULE, "demo", "--port", "0"]
        with subprocess.Popen(
            command, cwd=tmp_path, env=empty_environment(), stdout=subprocess.PIPE, text=True
        ) as demo:
            assert demo.stdout is not None
            try:
                assert any("Ctrl-C" in line for line in demo.stdout)
            finally:
                demo.send_signal(Signals.SIGTERM)
            assert demo.wait(PATIENCE_SECONDS) == 0
        refused = serve.result()
    assert refused.returncode == 1
    assert "line 2 of .env" in refused.stdout
