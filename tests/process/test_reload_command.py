"""`ridges-proxy reload`: its exit status says whether the settings are in force."""

from __future__ import annotations

import os
import subprocess
import sys
from signal import Signals
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.money import NANOUSD_PER_USD
from tests.process.fake_chutes_control import ROOT, directive
from tests.process.server import Proxy, chat, wait_until
from tests.support.app import ADMIN_KEY, CHUTES_KEY, PROXY_KEY
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream

FLAGS = ("-c", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT))
IN_FORCE = "The settings are in force.\n"
NEW_KEY = "new-key-of-the-tests"


class Installation:
    """A settings file, a folder of keys, and a server with two workers that reads both."""

    def __init__(self, folder: Path, fake_chutes: Upstream) -> None:
        self._folder = folder
        self._usual = {
            "CHUTES_BASE_URL": fake_chutes.chat_url,
            "CHUTES_EMBEDDING_URL": fake_chutes.embed_url,
            "HOST": "127.0.0.1",
            "PORT": "0",
            "WORKERS": "2",
            "GRACEFUL_TIMEOUT_SECONDS": "300",  # no reload of these tests waits for it
            "LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        }
        self.environ = {
            "PATH": os.environ["PATH"],
            "SETTINGS_FILE": str(folder / "env"),
            "CREDENTIALS_DIRECTORY": str(folder / "keys"),
        }
        (folder / "keys").mkdir()
        self.restore()

    def restore(self) -> None:
        """Write the first version of all files."""
        for path in (self._folder / "keys").iterdir():
            path.unlink()
        keys = {"CHUTES_API_KEY": CHUTES_KEY, "PROXY_API_KEY": PROXY_KEY, "ADMIN_API_KEY": ADMIN_KEY}
        for name, value in keys.items():
            self.write_key(name, value)
        self.write()

    def write(self, **settings: str) -> None:
        lines = [f"{name}={value}\n" for name, value in (self._usual | settings).items()]
        (self._folder / "env").write_text("".join(lines))

    def write_key(self, name: str, value: str) -> None:
        (self._folder / "keys" / name).write_text(f"{value}\n")

    def reload(self, proxy: Proxy, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        url = f"http://127.0.0.1:{proxy.port}"
        named = arguments or ("--timeout=120", str(proxy.pid))
        return subprocess.run(
            [sys.executable, "-m", "ridges_proxy", "reload", *named],
            cwd=ROOT,
            env={**self.environ, "PROXY_URL": url, **environ},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def files(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installation"), fake_chutes)


@pytest.fixture(scope="module")
def server(files: Installation) -> Iterator[Proxy]:
    with Proxy(None, *FLAGS, folder=ROOT, environ={**files.environ, "WORKERS": "2"}) as started:
        yield started


@pytest.fixture
def proxy(server: Proxy, files: Installation) -> Iterator[Proxy]:
    yield server
    files.restore()
    assert files.reload(server).stdout == IN_FORCE


def status_with(proxy: Proxy, key: str, path: str = "/v1/models") -> int:
    return proxy.ask("GET", path, headers={"Authorization": f"Bearer {key}"}).status


def test_changed_settings_and_keys_are_in_force_when_the_command_ends(
    proxy: Proxy, files: Installation, run: str
) -> None:
    files.write(MAX_COST_PER_RUN="3.5")
    files.write_key("PROXY_API_KEY", NEW_KEY)
    files.write_key("PROXY_API_KEY_PREVIOUS", PROXY_KEY)
    assert files.reload(proxy).stdout == IN_FORCE
    assert [status_with(proxy, key) for key in (NEW_KEY, PROXY_KEY)] == [200, 200]
    assert proxy.usage(run).budget == 3_500_000_000

    files.write_key("PROXY_API_KEY_PREVIOUS", "")
    assert files.reload(proxy).stdout == IN_FORCE
    assert [status_with(proxy, key) for key in (NEW_KEY, PROXY_KEY)] == [200, 401]


def test_the_key_of_the_command_itself_can_change(proxy: Proxy, files: Installation) -> None:
    files.write_key("ADMIN_API_KEY", NEW_KEY)
    assert files.reload(proxy).stdout == IN_FORCE
    assert [status_with(proxy, key, "/admin/runs") for key in (NEW_KEY, ADMIN_KEY)] == [200, 401]


def test_a_second_reload_does_not_wait_for_the_calls_of_the_first(
    proxy: Proxy, chutes: Upstream, files: Installation, run: str
) -> None:
    with proxy.sending(chat(run, directive(gate="two reloads"))) as wire:
        chutes.wait(at_gate=1)
        for budget in (3, 4):
            files.write(MAX_COST_PER_RUN=str(budget))
            assert files.reload(proxy).stdout == IN_FORCE
            assert proxy.usage(run).budget == budget * NANOUSD_PER_USD
        chutes.release("two reloads")
        assert wire.answer().status == 200
    wait_until(lambda: len(proxy.workers()) == 2, "the end of the old workers")
    assert proxy.usage(run).calls == 1


def test_prices_are_in_force_in_the_same_workers(proxy: Proxy, files: Installation) -> None:
    workers = proxy.workers()
    files.write(MODEL_PRICES='{"deepseek-ai/DeepSeek-V3-0324": 7}')
    assert files.reload(proxy).stdout == IN_FORCE
    assert proxy.workers() == workers
    assert '"prompt":7' in proxy.ask("GET", "/v1/models").body.decode().replace(" ", "").replace(".0", "")


def test_settings_with_problems_are_refused_and_the_server_gets_no_signal(
    proxy: Proxy, files: Installation
) -> None:
    earlier = len(proxy.lines.matching(logger="ridges_proxy.server.reload"))
    files.write(MAX_COST_PER_RUN="lots", WORKERS="none")
    refused = files.reload(proxy)
    assert refused.returncode == 1
    assert [line.split()[0] for line in refused.stderr.splitlines()[:2]] == ["MAX_COST_PER_RUN", "WORKERS"]
    assert refused.stderr.endswith("Nothing was reloaded: the previous settings stay in force.\n")
    assert status_with(proxy, PROXY_KEY) == 200
    assert len(proxy.lines.matching(logger="ridges_proxy.server.reload")) == earlier


def test_a_refusal_by_the_server_is_reported(proxy: Proxy, files: Installation, tmp_path: Path) -> None:
    """The command reads a valid file, and the server another one."""
    (tmp_path / "env").write_text(
        f"LEDGER_URL=sqlite:///{tmp_path}/ledger.db\nCHUTES_BASE_URL=http://a.test\n"
    )
    files.write(MAX_COST_PER_RUN="lots")
    refused = files.reload(proxy, SETTINGS_FILE=str(tmp_path / "env"))
    assert refused.returncode == 1
    assert (
        "The server refused the settings. The previous ones stay in force:\n  MAX_COST_PER_RUN"
        in refused.stderr
    )
    assert status_with(proxy, PROXY_KEY) == 200


def test_other_values_than_those_of_the_server_are_named(proxy: Proxy, files: Installation) -> None:
    refused = files.reload(proxy, MAX_TOKENS="77")
    assert refused.returncode == 1
    assert "The server has other values than those that are read here: MAX_TOKENS." in refused.stderr


def test_a_worker_that_starts_after_an_edit_has_the_accepted_settings(
    proxy: Proxy, files: Installation, run: str
) -> None:
    files.write(MAX_COST_PER_RUN="4")
    assert files.reload(proxy).stdout == IN_FORCE
    old = proxy.workers()
    files.write(MAX_COST_PER_RUN="lots")
    files.write_key("PROXY_API_KEY", NEW_KEY)
    for pid in old:
        os.kill(pid, Signals.SIGKILL)

    wait_until(lambda: len(proxy.workers()) == 2 and not set(old) & set(proxy.workers()), "new workers")
    assert proxy.usage(run).budget == 4_000_000_000
    assert status_with(proxy, NEW_KEY) == 401


def test_the_process_that_gets_the_signal_must_be_a_server(proxy: Proxy, files: Installation) -> None:
    worker = proxy.workers()[0]
    gone = subprocess.Popen(["true"])
    gone.wait()
    rows = [
        ((str(worker),), "is a worker"),
        ((str(os.getpid()),), "is not a server of this project"),
        ((str(gone.pid),), f"There is no process {gone.pid}"),
    ]
    for arguments, expected in rows:
        refused = files.reload(proxy, *arguments)
        assert (refused.returncode, expected in refused.stderr) == (1, True), refused.stderr
    assert files.reload(proxy, "--timeout=5").returncode == 2, "no process is named"
    by_systemd = files.reload(proxy, "--timeout=50", MAINPID=str(proxy.pid))
    assert by_systemd.stdout == IN_FORCE


def test_without_the_admin_key_the_command_says_that_it_cannot_look(
    proxy: Proxy, files: Installation
) -> None:
    files.write_key("ADMIN_API_KEY", "")
    done = files.reload(proxy)
    assert done.returncode == 0
    assert "cannot be seen without ADMIN_API_KEY" in done.stdout
    proxy.lines.wait(event="reloading")


def test_a_server_that_cannot_be_asked_is_reported(proxy: Proxy, files: Installation) -> None:
    refused = files.reload(proxy, "--timeout=1", str(proxy.pid), PROXY_URL=f"http://127.0.0.1:{free_port()}")
    assert refused.returncode == 1
    assert "The settings are not in force after 1 s. No answer from PROXY_URL" in refused.stderr
