"""The shipped configuration in a real Prometheus, and the queries of the dashboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.process.fake_chutes_control import ROOT, Upstream, directive
from tests.process.server import Proxy, wait_until
from tests.support.app import ADMIN_KEY
from tests.support.missing import missing
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())

EMPTY_WITHOUT_ERRORS = {"Ledger errors a second, by verb"}
"""Panels without data while the ledger answers."""

VARIABLES = {"$job": "ridges-proxy", "$model": ".*", "$__rate_interval": "1m"}


class Prometheus:
    """A context manager around a server with copies of the shipped files in a folder of its own."""

    def __init__(self, folder: Path, target_port: int) -> None:
        self._folder = folder
        self.port = free_port()
        for name in ("prometheus.yml", "prometheus-alerts.yml"):
            shutil.copy(ROOT / "deploy" / name, folder)
        (folder / "ridges-admin-key").write_text(ADMIN_KEY)
        shipped = (folder / "prometheus.yml").read_text()
        quick = shipped.replace("15s", "500ms").replace("127.0.0.1:8000", f"127.0.0.1:{target_port}")
        (folder / "prometheus.yml").write_text(quick)

    def __enter__(self) -> Self:
        program = shutil.which("prometheus") or missing("prometheus", "apt install prometheus")
        self._process = subprocess.Popen(
            [
                program,
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[Any]:
        """The samples of an instant query; none while the server starts."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}") as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
                return found
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []
            raise AssertionError(error.read()) from error
        except OSError:
            return []


@pytest.fixture
def proxy_with_calls(fake_chutes: Upstream) -> Iterator[Proxy]:
    """Its calls reach the first share of a shared budget, and no webhook takes the alert."""
    with Proxy(
        fake_chutes,
        MAX_COST_PER_RUN="0.1",
        BUDGETS='[{"name": "all", "usd": "0.0004", "window": "lifetime"}]',
        ALERT_PERCENTS="1",
        ALERT_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/",
    ) as proxy:
        yield proxy


def make_calls(proxy: Proxy, run: str) -> None:
    """Make a call of each kind that the dashboard shows."""
    assert proxy.infer(run).status == 200
    assert proxy.embed(run).status == 200
    assert proxy.infer(run, directive(fault="at_capacity")).status == 500
    assert proxy.infer("poor", "word " * 200_000).status == 200, (
        "/agents answers a refused call with status 200"
    )


def test_every_panel_has_data(proxy_with_calls: Proxy, run: str, tmp_path: Path) -> None:
    make_calls(proxy_with_calls, run)
    with Prometheus(tmp_path, proxy_with_calls.port) as prometheus:
        wait_until(lambda: bool(prometheus.query("rate(ridges_requests_total[1m])")), "two scrapes")
        make_calls(proxy_with_calls, run)
        calls = 'sum(ridges_requests_total{code="ok", model!="none"})'
        wait_until(lambda: float(prometheus.query(calls)[0]["value"][1]) == 4, "the scrape of the last calls")
        assert prometheus.query('up{job="ridges-proxy"}')[0]["value"][1] == "1"
        for panel in DASHBOARD["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"]
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                assert prometheus.query(expression) or panel["title"] in EMPTY_WITHOUT_ERRORS, expression
        assert not prometheus.query('ALERTS{alertstate="firing"}')
