"""The docs: their examples run against a demo, named files exist, and generated pages are up to date."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.calls.alert_bodies import json_body
from ridges_proxy.cli.settings import markdown
from ridges_proxy.config import DEFAULT_MODEL
from ridges_proxy.runtime.webhook_signature import signing_key, webhook_headers
from tests.deploy.nginx import Nginx, certify
from tests.process.examples import DOCS, blocks, demo, run
from tests.process.fake_chutes_control import ROOT
from tests.process.terminal import terminals
from tests.support.alert_store import alert_of
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start a demo for the examples of all pages. Yields its URL."""
    with demo() as started:
        yield started


def folder_of(name: str) -> Path:
    """The folder from which the links of a page start."""
    return ((ROOT if name.endswith("README.md") else ROOT / "docs") / name).parent


def headings(name: str) -> set[str]:
    return set(re.findall(r"^#+ (.*)$", DOCS[name], re.MULTILINE))


def test_the_page_of_settings_is_up_to_date() -> None:
    assert DOCS["reference/configuration.md"] == markdown(), "make docs"


def test_the_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy" / "prometheus-alerts.yml").read_text()))
    assert {name for name in headings("operating/runbook.md") if name.startswith("Ridges")} == alerts


@each_row("name", DOCS)
def test_every_file_that_a_page_names_exists(name: str) -> None:
    folder = folder_of(name)
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", DOCS[name])
    assert [link for link in links if not (folder / link).exists()] == []
    tests = re.findall(r"`(tests/[\w/]+\.py)`", DOCS[name])
    assert [test for test in tests if not (ROOT / test).exists()] == []


def test_every_test_file_that_security_names_contains_an_assertion() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", DOCS["operating/security.md"]))
    assert len(named) > 15
    assert all("assert" in (ROOT / name).read_text() for name in named)


def test_the_modules_that_the_architecture_names_exist() -> None:
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", DOCS["reference/architecture.md"]))
    assert len(named) > 12
    for name in named:
        assert name.startswith("tests/") or (ROOT / "ridges_proxy" / name).exists(), name


def test_the_examples_of_operations_print_what_the_page_describes(url: str) -> None:
    (first_call, _) = blocks("README.md")[1:]
    run(first_call, url)
    for run_id in ("misbehaving", "stopped", "leaked"):
        run(first_call.replace('"run_id": "demo"', f'"run_id": "{run_id}"'), url)
    pages = ("operating/operations.md", "operating/command-line.md")
    found = [run(block, url) for page in pages for block in blocks(page)]
    daily, misbehaving, stopped, leaked, spend, prices = found
    assert "misbehaving" in daily
    assert '"status":"ready"' in daily
    assert f'ridges_settled_usd_total{{model="{DEFAULT_MODEL}"}}' in daily
    assert "closed     no further calls are possible" in misbehaving
    assert "finished   no" in stopped
    assert re.search("token_issued +stopped .*budget \\$5", stopped)
    assert '"sub":"leaked"' in leaked
    assert "closed     no further calls are possible" in leaked
    assert re.search("run_closed +leaked", leaked)
    assert '"code":"invalid_api_key"' in leaked
    assert "demo" in spend
    assert re.search("run_reset +demo", spend)
    document = spend[spend.rindex('{"runs"') :]
    runs = {row["run_id"] for row in json.loads(document)["runs"]}
    assert {run_id for run_id in runs if not run_id.startswith("migration")} == {
        "demo",
        "misbehaving",
        "stopped",
        "leaked",
    }
    assert "0.27" in prices


def test_the_examples_of_the_migration_print_what_the_page_describes(url: str) -> None:
    calls, closed = (run(block, url) for block in blocks("operating/migration.md"))
    health, answer = calls.split("}", 1)
    assert json.loads(health + "}") == {"status": "healthy", "service": "ridges-ai-proxy"}
    assert answer.startswith('"word1 word2')
    assert json.loads(calls[calls.rindex("{") :])["calls"] == 2
    assert closed.startswith('"word1 word2')
    assert "migration-2" in closed


def test_nginx_accepts_the_configuration_of_the_migration(tmp_path: Path) -> None:
    (block,) = blocks("operating/migration.md", "nginx")
    certify(tmp_path)
    nginx = Nginx(tmp_path, "nginx.conf", {})
    (tmp_path / "site.conf").write_text(block.replace("listen 80;", f"listen 127.0.0.1:{nginx.plain_port};"))
    done = nginx.check()
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_deployment_page_exist() -> None:
    found = blocks("deploy/README.md")
    for block in found:
        assert subprocess.run(["bash", "-n", "-c", block], check=False).returncode == 0
    scripts = set(re.findall(r"/deploy/([a-z-]+)(?=[ \n])", "\n".join(found)))
    assert scripts == {"install", "backup", "restore", "rotate-key", "uninstall"}
    assert all(os.access(ROOT / "deploy" / name, os.X_OK) for name in scripts)
    named = set(re.findall(r"^ridges-proxy ([a-z]+)", "\n".join(found), re.MULTILINE))
    assert named == {"doctor", "spend"}
    assert named <= {entry.name for entry in entry_points(group="flask.commands")}


def test_the_alert_of_the_page_is_sent_so_and_its_examples_check_the_signature() -> None:
    (message,) = map(json.loads, blocks("operating/alerts.md", "json"))
    data, period = message["data"], "day 2026-11-30"
    alert = alert_of(
        1, datetime.fromisoformat(message["timestamp"]).timestamp(), id=data["id"], period=period
    )
    body = json_body(alert)
    assert json.loads(body) == message
    text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = webhook_headers(alert.id, int(time.time()), body, signing_key(text))
    library, function = blocks("operating/alerts.md", "python")
    names: dict[str, Any] = {"body": body, "headers": headers}
    exec(library, names)
    assert names["alert"] == message
    exec(function, names)
    assert names["is_genuine"](signing_key(text), headers, body)
    assert not names["is_genuine"](b"another key", headers, body)
    assert not names["is_genuine"](signing_key(text), headers, body + b" ")
    late = webhook_headers(alert.id, int(time.time()) - 301, body, signing_key(text))
    assert not names["is_genuine"](signing_key(text), late, body)


def test_the_budgets_of_the_page_are_checked_and_the_demo_runs_with_them(tmp_path: Path) -> None:
    (example,) = blocks("operating/budgets.md", "toml")
    check, start, watch = blocks("operating/budgets.md")
    (tmp_path / "budgets.toml").write_text(example)
    with terminals(tmp_path, 2) as (proxy, operator):
        assert "3 budgets" in proxy.run(check)
        proxy.type(start)
        proxy.read_until("Press Ctrl-C to stop")
        shown = operator.run(watch)
        assert "The amount of miner for miner:ann is $5.00 now, as in BUDGETS." in shown


def test_the_key_of_the_page_signs_alerts() -> None:
    (command,) = re.findall(r"`(echo \"whsec_[^`]+)`", DOCS["operating/alerts.md"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert len(signing_key(done.stdout.strip())) == 32


def test_every_heading_that_a_page_links_to_exists() -> None:
    for name, text in DOCS.items():
        for target, anchor in re.findall(r"\]\((?:([\w/.]+\.md))?#([\w-]+)\)", text):
            page = (folder_of(name) / (target or Path(name).name)).read_text("utf-8")
            anchors = {
                re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
            }
            assert anchor in anchors, f"{name}: {target}#{anchor}"
