"""The doctor command against a real server and a fake Chutes, and with every problem that it finds."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from packaging.version import Version

from ridges_proxy.cli import local_checks, server_checks
from ridges_proxy.cli.doctor import doctor
from ridges_proxy.config import DEFAULT_MODEL
from tests.process.server import Proxy, clean_environment
from tests.support.ports import free_port
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('doctor')}/ledger.db"


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, ledger_url: str) -> Iterator[Proxy]:
    with Proxy(fake_chutes, LEDGER_URL=ledger_url) as started:
        yield started


def examine(fake_chutes: Upstream | None, *arguments: str, **settings: str) -> Result:
    environ = clean_environment(fake_chutes, **settings)
    return CliRunner().invoke(doctor, arguments, env=environ)


@contextmanager
def clock_ahead_by(seconds: float) -> Iterator[str]:
    """Start a server whose clock is ahead, or behind if negative. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 - the base's
            return super().date_time_string(time.time() + seconds)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url_of(server.server_port)
        server.shutdown()
        thread.join()


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def line_of(result: Result, what: str) -> str:
    """Return the first line about a subject."""
    return next(line for line in result.output.splitlines() if line.split(None, 1)[1].startswith(f"{what}: "))


def test_without_problems_every_check_prints_ok(proxy: Proxy, fake_chutes: Upstream, ledger_url: str) -> None:
    result = examine(fake_chutes, PROXY_URL=url_of(proxy.port), LEDGER_URL=ledger_url)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}, result.output
    subjects = {line.split(None, 1)[1].partition(":")[0] for line in lines}
    assert subjects == {
        "settings",
        "ledger",
        "disk",
        "open files",
        "parser",
        "DNS",
        "clock",
        "upstream",
        "prices",
        "embedding",
        "server",
        "keys",
    }
    assert sum(" keys: " in line for line in lines) == 2


def test_a_c_parser_that_is_too_old_is_a_warning(
    fake_chutes: Upstream, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_checks, "c_parser_version", lambda: Version("0.6.9"))
    line = line_of(examine(fake_chutes, LEDGER_URL=ledger_url), "parser")
    assert line.startswith("warning ")
    assert "0.6.9 is too old and not used" in line


def test_a_price_that_seems_to_be_per_token_is_a_warning(fake_chutes: Upstream, ledger_url: str) -> None:
    prices = json.dumps({DEFAULT_MODEL: 0.00000027})
    result = examine(fake_chutes, LEDGER_URL=ledger_url, MODEL_PRICES=prices)
    line = line_of(result, "prices")
    assert line.startswith("warning ")
    assert f"{DEFAULT_MODEL}: a price in MODEL_PRICES is below 0.001 USD per million tokens" in line


def test_the_doctor_spends_nothing_and_shows_no_key(proxy: Proxy, chutes: Upstream, ledger_url: str) -> None:
    settings = clean_environment(chutes, PROXY_URL=url_of(proxy.port), LEDGER_URL=ledger_url)
    result = CliRunner().invoke(doctor, ["--json"], env=settings)
    assert not [
        value
        for name, value in settings.items()
        if name.endswith("_KEY") and value and value in result.output
    ]
    assert chutes.calls() == []
    assert {finding["state"] for finding in json.loads(result.output)} == {"ok"}


def test_every_problem_of_the_settings_has_a_line(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, PROXY_API_KEY="", PORT="x", WORKERS="0")
    assert result.exit_code == 1
    found = [line.split()[:3] for line in result.output.splitlines()]
    assert found[:3] == [["failed", "settings:", name] for name in ("PROXY_API_KEY", "PORT", "WORKERS")]


def test_invalid_settings_end_only_the_checks_that_need_them(
    proxy: Proxy, fake_chutes: Upstream, ledger_url: str
) -> None:
    settings = {"PROXY_URL": url_of(proxy.port), "LEDGER_URL": ledger_url}
    result = examine(fake_chutes, **settings, PROXY_API_KEY="", PORT="x", MODEL_PRICES="{")
    assert result.exit_code == 1
    states = [
        line.split()[0] + " " + line.split(None, 1)[1].partition(":")[0]
        for line in result.output.splitlines()
    ]
    assert states == [
        *["failed settings"] * 3,
        "ok ledger",
        "ok disk",
        "ok open files",
        "ok parser",
        "warning prices",
        "ok DNS",
        "ok clock",
        "ok upstream",
        "warning upstream",
        "ok server",
        "warning server",
        "warning settings",
    ]
    assert "not checked, because MODEL_PRICES is missing or not valid" in line_of(result, "prices")


def test_settings_that_contradict_each_other_end_no_check(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, MIN_COMPLETION_TOKENS="9", MAX_TOKENS="8")
    assert line_of(result, "settings").startswith(
        "failed   settings: MIN_COMPLETION_TOKENS is above MAX_TOKENS"
    )
    assert line_of(result, "upstream").startswith("ok")
    assert "not checked" not in result.output


def test_an_unknown_setting_is_a_warning(
    fake_chutes: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("MAX_COST_PER_RUNS=1\n")
    monkeypatch.chdir(tmp_path)
    result = examine(fake_chutes, PROXY_URL=url_of(free_port()))
    (warning,) = [line for line in result.output.splitlines() if "MAX_COST_PER_RUN?" in line]
    assert warning.startswith("warning")


def test_a_server_that_does_not_run_is_a_failure(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, PROXY_URL=url_of(free_port()))
    assert result.exit_code == 1
    assert line_of(result, "server").startswith("failed")
    assert line_of(result, "server").endswith("→ start it, or correct PROXY_URL")


def test_a_server_whose_ledger_refuses_writes_is_a_failure_with_advice(
    fake_chutes: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"status": "not_ready", "ledger": {"answers": False}, "sweeper": {"running": True}}
    monkeypatch.setattr(server_checks, "_get", lambda *_: (503, state))
    result = examine(fake_chutes)
    assert result.exit_code == 1
    assert "its ledger does not answer, or refuses writes" in result.stdout
    assert "make room on the disk" in result.stdout


def test_the_doctor_recognizes_another_server(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, PROXY_URL=fake_chutes.url)
    assert "the answer is not from this proxy" in line_of(result, "server")


def test_a_key_that_the_server_refuses_is_reported(
    proxy: Proxy, fake_chutes: Upstream, ledger_url: str
) -> None:
    result = examine(
        fake_chutes, PROXY_URL=url_of(proxy.port), LEDGER_URL=ledger_url, PROXY_API_KEY="new-key"
    )
    assert "the running server answers 401 to PROXY_API_KEY" in line_of(result, "keys")
    assert result.exit_code == 0


def test_a_ledger_in_memory_is_a_warning(fake_chutes: Upstream) -> None:
    assert line_of(examine(fake_chutes), "ledger").startswith("warning")


def test_a_ledger_that_does_not_answer_is_a_failure(fake_chutes: Upstream) -> None:
    result = examine(
        fake_chutes, LEDGER_URL=f"redis://:hidden@127.0.0.1:{free_port()}", LEDGER_TIMEOUT_SECONDS="0.5"
    )
    assert line_of(result, "ledger").startswith("failed")
    assert "hidden" not in result.output


def test_the_doctor_does_not_create_the_ledger(fake_chutes: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    assert line_of(examine(fake_chutes, LEDGER_URL=f"sqlite:///{path}"), "ledger").startswith("ok")
    assert not path.exists()
    without_folder = line_of(examine(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/none/new.db"), "ledger")
    assert without_folder.startswith("failed")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write to all folders")
def test_root_examines_the_ledger_of_another_user(fake_chutes: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    for owned in (tmp_path, path):
        os.chown(owned, 65_534, 65_534)
    result = examine(fake_chutes, LEDGER_URL=f"sqlite:///{path}")
    assert {found.stat().st_uid for found in tmp_path.iterdir()} == {65_534}
    assert line_of(result, "ledger").startswith("ok")


def test_a_ledger_that_cannot_be_opened_does_not_end_the_checks(
    fake_chutes: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ledger.db").mkdir()
    monkeypatch.setattr(local_checks, "free_bytes", lambda _path: 5 << 20)
    result = examine(fake_chutes, LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db")
    assert line_of(result, "ledger").startswith("failed")
    assert "only 5 MiB are free" in line_of(result, "disk")
    assert line_of(result, "upstream").startswith("ok")


def test_settings_that_are_not_in_force_are_named(
    proxy: Proxy, fake_chutes: Upstream, ledger_url: str
) -> None:
    settings = {"PROXY_URL": url_of(proxy.port), "LEDGER_URL": ledger_url}
    result = examine(fake_chutes, **settings, MAX_TOKENS="77", WORKERS="2")
    (line,) = [line for line in result.output.splitlines() if "other values" in line]
    message = "warning  settings: the running server has other values: MAX_TOKENS, WORKERS"
    assert line.startswith(f"{message} → `systemctl reload ridges-proxy`")


def test_the_doctor_says_that_it_cannot_compare_without_the_admin_key(
    proxy: Proxy, fake_chutes: Upstream
) -> None:
    result = examine(fake_chutes, PROXY_URL=url_of(proxy.port), ADMIN_API_KEY="")
    (line,) = [line for line in result.output.splitlines() if "not compared" in line]
    assert line.startswith("warning  settings:")
    assert line.endswith("→ set ADMIN_API_KEY")


def test_an_upstream_that_does_not_answer_is_a_failure(fake_chutes: Upstream) -> None:
    result = examine(
        fake_chutes, CHUTES_BASE_URL=f"{url_of(free_port())}/v1", CHUTES_EMBEDDING_URL=url_of(free_port())
    )
    for what in ("upstream", "embedding"):
        assert line_of(result, what).startswith("failed")
    assert line_of(result, "clock").startswith("warning")


def test_a_host_name_that_does_not_resolve_is_a_failure(
    fake_chutes: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_checks, "TIMEOUT_SECONDS", 2.0)
    result = examine(fake_chutes, CHUTES_EMBEDDING_URL="http://nowhere.invalid/embed")
    assert "failed   DNS: nowhere.invalid is not found" in result.output


def test_a_price_below_the_price_of_the_upstream_is_a_failure(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, MODEL_PRICES='{"deepseek-ai/DeepSeek-V3-0324": 0.1}')
    assert line_of(result, "prices").startswith("failed")
    assert "raise it in MODEL_PRICES" in line_of(result, "prices")


@each_row("seconds, direction", [(60, "behind"), (-60, "ahead of")])
def test_a_wrong_clock_is_a_failure(fake_chutes: Upstream, seconds: int, direction: str) -> None:
    with clock_ahead_by(seconds) as url:
        result = examine(fake_chutes, CHUTES_BASE_URL=url)
    assert line_of(result, "clock").startswith("failed")
    assert direction in line_of(result, "clock")


def test_the_doctor_states_the_file_limit_that_the_calls_need(fake_chutes: Upstream) -> None:
    result = examine(fake_chutes, MAX_CONCURRENT_CALLS="100000")
    assert "200" in line_of(result, "open files")
