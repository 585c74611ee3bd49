"""Starting the app with commands other than `ridges-proxy serve`."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import ROOT
from tests.process.server import GUNICORN, Proxy, clean_environment
from tests.process.wire import PATIENCE_SECONDS
from tests.support.app import ADMIN_KEY, environ_of
from tests.support.ports import free_port
from tests.support.table import check_rows

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

APP = "ridges_proxy:create_app()"
FLASK = str(Path(sys.executable).with_name("flask"))
MODULE = [sys.executable, "-m", "ridges_proxy"]
START_SECONDS = 100.0
TIMED = {"request", "draining"}
"""Log events whose number depends on the speed of the machine."""

pytestmark = pytest.mark.timeout(240)


def started(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
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


@pytest.mark.parametrize(
    "command",
    [
        [GUNICORN, "-w", "4", APP],
        [GUNICORN, "-w", "1", "-k", "gevent", APP],
        [FLASK, "--app", APP, "run"],
        [FLASK, "--app", APP, "--debug", "run"],
    ],
    ids=["gunicorn", "gunicorn with gevent", "flask", "flask with its reloader"],
)
def test_another_server_refuses_to_start_and_names_the_right_command(
    tmp_path: Path, command: list[str]
) -> None:
    port = free_port()
    address = ["--bind", f"127.0.0.1:{port}"] if command[0] == GUNICORN else ["--port", str(port)]

    done = started(tmp_path, *command, *address)

    assert done.returncode > 0
    assert "`ridges-proxy serve`" in done.stdout
    if "4" not in command:  # if several workers fail at once, gunicorn adds a traceback of its own
        assert "Traceback" not in done.stdout
    assert "ridges_proxy/" not in done.stdout, "a traceback of this package"
    assert "Booting worker" not in done.stdout.rpartition("`ridges-proxy serve`")[2], "started again"
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0, "a server listens"


def test_a_checkout_and_the_command_start_the_same_server(fake_chutes: Upstream, tmp_path: Path) -> None:
    events, settings = [], clean_environment(fake_chutes, PYTHONPATH=str(ROOT))
    for command, folder in ([GUNICORN, "wsgi:app"], ROOT), ([*MODULE, "serve"], tmp_path):
        with Proxy(None, command=command, folder=folder, environ=settings) as proxy:
            assert proxy.stop() == 0
        lines = proxy.lines.matching()
        events.append(Counter((line["event"], line["level"]) for line in lines if line["event"] not in TIMED))

    assert events[0] == events[1]
    assert {"listening", "worker ready", "stopped"} <= {event for event, _ in events[0]}


def test_the_commands_of_flask_print_the_same_as_the_script(fake_chutes: Upstream, tmp_path: Path) -> None:
    with Proxy(fake_chutes) as proxy:
        assert proxy.infer("a-run").status == 200
        url = f"http://127.0.0.1:{proxy.port}"
        rows = [
            (0, {"PROXY_URL": url, "ADMIN_API_KEY": ADMIN_KEY}),
            (2, {"PROXY_URL": url, "ADMIN_API_KEY": ""}),
            (3, {"PROXY_URL": f"http://127.0.0.1:{free_port()}", "ADMIN_API_KEY": ADMIN_KEY}),
            (4, {"PROXY_URL": url, "ADMIN_API_KEY": "wrong"}),
        ]

        def check(row: tuple[int, dict[str, str]]) -> None:
            status, environ = row
            found = [
                started(tmp_path, *command, "spend", "list", "--json", **environ)
                for command in ([FLASK], MODULE)
            ]
            documents = [done.stdout.partition(', "idle_seconds"')[0] for done in found]
            assert [done.returncode for done in found] == [status, status]
            assert documents[0] == documents[1]
            assert ("a-run" in documents[0]) == (status == 0)

        check_rows(rows, check)


def test_serve_reads_the_dotenv_file_of_the_current_folder(fake_chutes: Upstream, tmp_path: Path) -> None:
    settings = {
        **environ_of(),
        "CHUTES_BASE_URL": fake_chutes.chat_url,
        "CHUTES_EMBEDDING_URL": fake_chutes.embed_url,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "MAX_COST_PER_RUN": "0.125",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    environ = {"PATH": clean_environment(None)["PATH"], "PYTHONPATH": str(ROOT)}

    with Proxy(None, command=[*MODULE, "serve"], folder=tmp_path, environ=environ) as proxy:
        assert proxy.usage("a-run").budget == 125_000_000


def test_the_demo_does_not_read_the_dotenv_file_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_COST_PER_RUN=lots\nPORT\n")
    refused = started(tmp_path, *MODULE, "serve")
    assert refused.returncode == 1
    assert "line 2 of .env" in refused.stdout

    environ = {"PATH": clean_environment(None)["PATH"], "PYTHONPATH": str(ROOT)}
    command = [*MODULE, "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Ctrl-C" in line for line in process.stdout)
        finally:
            process.send_signal(Signals.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
