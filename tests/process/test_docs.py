"""What the docs say is so: examples run against a demo, names exist, and what is generated is up to date."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.cli.settings import markdown
from ridges_proxy.config import DEFAULT_MODEL
from tests.deploy.nginx import Nginx, certify
from tests.process.examples import DOCS, blocks, run
from tests.process.fake_chutes_control import ROOT
from tests.support.missing import missing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)
"""Many commands run one after another; each starts a Python of its own."""


def headings(name: str) -> set[str]:
    return set(re.findall(r"^#+ (.*)$", DOCS[name], re.MULTILINE))


def test_the_page_of_settings_is_what_the_settings_are() -> None:
    assert DOCS["CONFIGURATION.md"] == markdown(), "make docs"


def test_every_alert_has_its_page_and_no_other() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy" / "prometheus-alerts.yml").read_text()))
    assert {name for name in headings("OPERATIONS.md") if name.startswith("Ridges")} == alerts


@pytest.mark.parametrize("name", DOCS)
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    folder = {"README.md": ROOT, "deploy/README.md": ROOT / "deploy"}.get(name, ROOT / "docs")
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", DOCS[name])
    assert [link for link in links if not (folder / link).exists()] == []
    tests = re.findall(r"`(tests/[\w/]+\.py)`", DOCS[name])
    assert [test for test in tests if not (ROOT / test).exists()] == []


def test_every_test_that_security_names_asserts_something() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", DOCS["SECURITY.md"]))
    assert len(named) > 15
    assert all("assert" in (ROOT / name).read_text() for name in named)


def test_the_modules_that_the_architecture_names_are_there() -> None:
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", DOCS["ARCHITECTURE.md"]))
    assert len(named) > 12
    for name in named:
        assert name.startswith("tests/") or (ROOT / "ridges_proxy" / name).exists(), name


def test_the_examples_of_operations_do_what_they_say(demo_url: str) -> None:
    (first_call, _) = blocks("README.md")[1:]
    run(first_call, demo_url)
    run(first_call.replace('"run_id": "demo"', '"run_id": "misbehaving"'), demo_url)
    daily, misbehaving, spend, prices = (run(block, demo_url) for block in blocks("OPERATIONS.md"))
    assert "misbehaving" in daily
    assert '"status":"ready"' in daily
    assert f'ridges_settled_usd_total{{model="{DEFAULT_MODEL}"}}' in daily
    assert "closed     no further calls are possible" in misbehaving
    assert "demo" in spend
    document = spend[spend.rindex('{"runs"') :]
    assert {row["run_id"] for row in json.loads(document)["runs"]} == {"demo", "misbehaving"}
    assert "0.27" in prices


def test_the_examples_of_the_migration_do_what_they_say(demo_url: str) -> None:
    tried, closed = (run(block, demo_url) for block in blocks("MIGRATION.md"))
    health, answer = tried.split("}", 1)
    assert json.loads(health + "}") == {"status": "healthy", "service": "ridges-ai-proxy"}
    assert answer.startswith('"word1 word2')
    assert json.loads(tried[tried.rindex("{") :])["calls"] == 2
    assert closed.startswith("eyJ")
    assert "migration-2" in closed


def test_nginx_takes_the_file_of_the_migration(tmp_path: Path) -> None:
    (block,) = blocks("MIGRATION.md", "nginx")
    certify(tmp_path)
    nginx = Nginx(tmp_path, "nginx.conf", {})
    (tmp_path / "site.conf").write_text(block.replace("listen 80;", f"listen 127.0.0.1:{nginx.plain_port};"))
    done = nginx.check()
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_deployment_exist() -> None:
    for block in blocks("deploy/README.md"):
        assert subprocess.run(["bash", "-n", "-c", block], check=False).returncode == 0
    named = set(re.findall(r"bin/ridges-proxy ([a-z]+)(?: ([a-z]+))?", DOCS["deploy/README.md"]))
    assert named == {("doctor", ""), ("ledger", "verify")}
    commands = {entry.name: entry for entry in entry_points(group="flask.commands")}
    assert {name for name, _ in named} <= commands.keys()
    assert "verify" in commands["ledger"].load().commands


def test_a_backup_is_made_and_checked_as_the_deployment_says(tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        missing("sqlite3", "apt install sqlite3")
    (block,) = [each for each in blocks("deploy/README.md") if ".backup" in each]
    ledger = tmp_path / "ledger.db"
    run(f"LEDGER_URL=sqlite:///{ledger} .venv/bin/flask ledger check", "")
    script = block.replace("/var/lib/ridges-proxy/ledger.db", str(ledger))
    script = script.replace("/var/backups", str(tmp_path))
    script = script.replace("/opt/ridges-proxy/current/.venv", ".venv")
    assert "The ledger is consistent." in run(script, "")


def test_every_heading_that_a_page_points_to_is_there() -> None:
    for name, text in DOCS.items():
        for target, anchor in re.findall(r"\]\((?:([\w/.]+\.md))?#([\w-]+)\)", text):
            page = DOCS[target.rpartition("/")[2] if target else name]
            anchors = {
                re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
            }
            assert anchor in anchors, f"{name}: {target}#{anchor}"
