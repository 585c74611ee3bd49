"""The dashboard and the alerts: their metrics exist, and promtool accepts the files."""

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
    result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def existing_samples() -> set[str]:
    registry = Metrics()._registry
    assert isinstance(registry, CollectorRegistry)
    return {
        family.name + suffix for family in registry.collect() for suffix in _SUFFIXES.get(family.type, ())
    }


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("text", [json.dumps(DASHBOARD), ALERTS], ids=["dashboard", "alerts"])
def test_every_metric_in_the_queries_exists(text: str) -> None:
    queried = set(_NAME.findall(text))
    assert len(queried) >= 8
    assert queried <= existing_samples()


def test_every_metric_is_on_the_dashboard() -> None:
    on_dashboard = {name.removesuffix("_bucket") for name in _NAME.findall(" ".join(queries()))}
    existing = {re.sub("_(bucket|sum|count)$", "", name) for name in existing_samples()}
    assert existing == on_dashboard


def test_panels_have_distinct_ids_and_titles_and_known_variables() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(query.count("{") == query.count("}") for query in queries())
    assert {name for query in queries() for name in re.findall(r"\$(\w+)", query)} == {
        "job",
        "model",
        "__rate_interval",
    }


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "prometheus-alerts.yml"):
        shutil.copy(DEPLOY / name, tmp_path)
    (tmp_path / "ridges-admin-key").write_text("k")
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_every_alert_fires_on_its_failure_and_not_on_a_healthy_server() -> None:
    promtool("test", "rules", ALERT_TESTS)
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    firing, healthy = ALERT_TESTS.read_text().split("- name: a healthy server")
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n", firing), "no test where it fires"
        assert f"alertname: {alert}," in healthy
