"""The dashboard and the alerts ask for metrics that exist, and promtool takes the files as they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.registry import CollectorRegistry

from ridges_proxy.telemetry.metrics import Metrics
from tests.support.missing import missing

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
ALERTS = (DEPLOY / "prometheus-alerts.yml").read_text()
ALERT_TESTS = Path(__file__).with_name("prometheus-alerts.test.yml")

_NAME = re.compile(r"\bridges_[a-z_]+")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool") or missing("promtool", "apt install prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def samples_that_exist() -> set[str]:
    registry = Metrics()._registry
    assert isinstance(registry, CollectorRegistry)
    return {
        family.name + suffix for family in registry.collect() for suffix in _SUFFIXES.get(family.type, ())
    }


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("text", [json.dumps(DASHBOARD), ALERTS], ids=["dashboard", "alerts"])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    asked = set(_NAME.findall(text))
    assert len(asked) >= 8
    assert asked <= samples_that_exist()


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name.removesuffix("_bucket") for name in _NAME.findall(" ".join(queries()))}
    existing = {re.sub("_(bucket|sum|count)$", "", name) for name in samples_that_exist()}
    assert existing == shown


def test_the_dashboard_says_what_each_panel_is() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(query.count("{") == query.count("}") for query in queries())
    assert {name for query in queries() for name in re.findall(r"\$(\w+)", query)} == {
        "job",
        "model",
        "__rate_interval",
    }


def test_promtool_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "prometheus-alerts.yml"):
        shutil.copy(DEPLOY / name, tmp_path)
    (tmp_path / "ridges-admin-key").write_text("k")
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_every_alert_fires_where_it_should_and_is_silent_on_a_calm_server() -> None:
    promtool("test", "rules", ALERT_TESTS)
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    fired, calm = ALERT_TESTS.read_text().split("- name: a calm server")
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n", fired), "one that fires"
        assert f"alertname: {alert}," in calm
