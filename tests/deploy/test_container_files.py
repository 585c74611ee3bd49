"""The files for containers: their schemas, and the values on which they must agree."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import yaml
from dotenv import dotenv_values

from ridges_proxy.config import Settings
from ridges_proxy.server.drain import EXIT_SECONDS
from tests.deploy.dockerfile import FINAL, STAGES
from tests.deploy.image import SECRETS, STATE, USER
from tests.process.fake_chutes_control import ROOT
from tests.support.file_mode import mode_of
from tests.support.missing import missing
from tests.support.table import check_rows

DEPLOY = ROOT / "deploy"
GUIDE = (DEPLOY / "CONTAINERS.md").read_text()
SCHEMA = json.loads((Path(__file__).parent / "vendor" / "compose-spec.json").read_text())
COMPOSE = {
    path.name: yaml.safe_load(path.read_text())
    for path in (ROOT / "compose.yaml", DEPLOY / "compose-sidecar.yaml")
}
MANIFESTS = [
    manifest
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
SETTINGS = {each.metadata["name"]: each.metadata for each in dataclasses.fields(Settings)}
SECRET = {each.metadata["name"] for each in dataclasses.fields(Settings) if not each.repr}
GRACE_SECONDS = int(FINAL.environ["GRACEFUL_TIMEOUT_SECONDS"])
PROXY = "ridges-proxy"
KUBERNETES = "1.37"
PINNED_IMAGE = r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"


def seconds(duration: str) -> int:
    (number,) = re.fullmatch(r"(\d+)s", duration).groups()  # type: ignore[union-attr]
    return int(number)


def pods() -> list[dict[str, Any]]:
    """Return the pods of the proxy: one for each ledger."""
    workloads = [each for each in MANIFESTS if each["kind"] in {"Deployment", "StatefulSet"}]
    return [each["spec"]["template"]["spec"] for each in workloads if each["metadata"]["name"] == PROXY]


def services() -> list[tuple[str, dict[str, Any]]]:
    return [(file, each["services"][PROXY]) for file, each in COMPOSE.items()]


def test_the_compose_files_are_valid() -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    errors = [f"{file}: {error}" for file, text in COMPOSE.items() for error in validator.iter_errors(text)]
    assert errors == []


def test_every_name_in_a_compose_file_is_declared_in_it() -> None:
    def check(row: tuple[str, dict[str, Any]]) -> None:
        file, service = row
        for kind in ("secrets", "networks"):
            used = {each if isinstance(each, str) else each["source"] for each in service.get(kind, [])}
            assert used <= COMPOSE[file][kind].keys()
        sources = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        paths = {source for source in sources if "/" in source}
        assert sources - paths <= COMPOSE[file]["volumes"].keys()
        assert [path for path in paths if not (ROOT / path).is_file()] == []

    check_rows([(file, each) for file, text in COMPOSE.items() for each in text["services"].values()], check)


def test_the_manifests_are_valid() -> None:
    def check(manifest: dict[str, Any]) -> None:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    check_rows(MANIFESTS, check)


def test_images_of_others_are_pinned_by_their_digest() -> None:
    bases = {stage.base for stage in STAGES} - {stage.name for stage in STAGES}
    compose = {each["image"] for text in COMPOSE.values() for each in text["services"].values()}
    kubernetes = {
        container["image"]
        for manifest in MANIFESTS
        if "template" in manifest.get("spec", {})
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    own = {PROXY, "${AGENT_IMAGE:-agent}", f"registry.example.com/{PROXY}:{version()}"}
    assert f"`registry.example.com/{PROXY}:{version()}`" in GUIDE
    unpinned = {each for each in bases | compose | kubernetes if not re.fullmatch(PINNED_IMAGE, each)}
    assert unpinned == own


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_the_build_gets_exactly_what_the_dockerfile_copies() -> None:
    copied = {
        source
        for stage in STAGES
        for instruction, text in stage.steps
        if instruction == "COPY" and not text.startswith("--from=")
        for source in text.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert "*" in ignore
    assert {path for path in copied if not (ROOT / path).exists()} == set()


def test_the_build_requirement_has_the_version_of_the_tests() -> None:
    (pinned,) = re.findall(r"^setuptools==.*$", (ROOT / "requirements-build.txt").read_text(), re.MULTILINE)
    assert pinned in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_every_setting_that_the_files_name_exists_and_its_value_is_valid() -> None:
    maps = [each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap"]
    environs = [FINAL.environ, *maps, *(service["environment"] for _, service in services())]
    known = {"PATH", "PYTHONUNBUFFERED", "CREDENTIALS_DIRECTORY"}

    def check(row: tuple[str, str]) -> None:
        name, value = row
        SETTINGS[name]["parse"](re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))

    check_rows([row for each in environs for row in each.items() if row[0] not in known], check)


def test_nothing_kills_the_proxy_before_its_drain_ends() -> None:
    production = dotenv_values(DEPLOY / "production.env")
    assert str(GRACE_SECONDS) == production["GRACEFUL_TIMEOUT_SECONDS"], "it is tested to be long enough"
    compose = COMPOSE["compose.yaml"]["services"]
    waits = [seconds(service["stop_grace_period"]) for _, service in services()]
    waits.append(seconds(compose["nginx"]["stop_grace_period"]))
    for pod in pods():
        hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        waits.append(pod["terminationGracePeriodSeconds"] - int(hook[1]))
    named = [service["environment"]["GRACEFUL_TIMEOUT_SECONDS"] for _, service in services()]
    named += [each["data"]["GRACEFUL_TIMEOUT_SECONDS"] for each in MANIFESTS if each["kind"] == "ConfigMap"]
    assert {int(each) for each in named} == {GRACE_SECONDS}
    assert len(waits) == 5
    assert min(waits) >= GRACE_SECONDS + EXIT_SECONDS


def test_the_proxy_is_not_the_first_process_of_its_container() -> None:
    """The kernel drops a SIGTERM for which the first process has no handler yet."""
    assert [service["init"] for _, service in services()] == [True, True]
    assert [pod["shareProcessNamespace"] for pod in pods()] == [True, True]


def test_the_pods_differ_only_in_their_ledger() -> None:
    first, second = pods()
    assert first["containers"] == second["containers"]
    (container,) = first["containers"]
    assert {each["name"]: each["mountPath"] for each in container["volumeMounts"]} == {
        "keys": SECRETS,
        "state": STATE,
        "tmp": "/tmp",
        "shared-memory": "/dev/shm",
    }
    differing = {key for key in first if first[key] != second[key]}
    assert differing == {"volumes"}
    assert first["volumes"][:-1] == second["volumes"]
    assert first["securityContext"]["runAsUser"] == first["securityContext"]["fsGroup"] == USER
    ports = {container["ports"][0]["containerPort"], int(FINAL.value("EXPOSE")), int(FINAL.environ["PORT"])}
    assert ports == {int(SETTINGS["PORT"]["default"])}


def test_containers_have_no_privileges_and_a_read_only_root() -> None:
    def check(service: dict[str, Any]) -> None:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]

    ours = [each for text in COMPOSE.values() for name, each in text["services"].items() if name != "agent"]
    check_rows(ours, check)


def shipped_with(folder: Path, service: str, server: str) -> None:
    """Run a service's command on the shipped files, up to the start of its server."""
    command: str = COMPOSE["compose.yaml"]["services"][service]["entrypoint"][2].replace("$$", "$")
    steps, started, _ = command.partition(f"exec {server} ")
    assert started
    source = folder / "source"
    source.mkdir()
    for name in ("prometheus-alerts.yml", "prometheus.yml", "nginx.conf"):
        shutil.copy(DEPLOY / name, source)
    (source / "ridges-admin-key").write_text("key")
    (source / "nginx.main").write_text("include /etc/nginx/conf.d/*.conf;")
    local = {"/etc/ridges-proxy": source, "/etc/nginx/nginx.conf": source / "nginx.main", "/tmp": folder}
    steps = re.sub("|".join(local), lambda found: str(local[found[0]]), steps)
    environ = {"PATH": "/bin:/usr/bin", "SERVER_NAME": "api.test"}
    subprocess.run(["sh", "-euc", steps], env=environ, check=True)


def test_nginx_gets_the_shipped_file_with_another_name_and_address(tmp_path: Path) -> None:
    shipped_with(tmp_path, "nginx", "nginx")
    shipped = (DEPLOY / "nginx.conf").read_text().splitlines()
    made = (tmp_path / "default.conf").read_text().splitlines()
    changed = {old for old, new in zip(shipped, made, strict=True) if old != new}
    assert changed == {
        line for line in shipped if re.search(r"proxy\.example\.com|server 127\.0\.0\.1", line)
    }
    (server,) = [line for line in made if "resolve;" in line]
    (zone,) = re.findall(r"zone (\w+) ", server)
    assert f"shared:{zone}:" not in "\n".join(made), "nginx refuses two zones with one name"
    assert f"server {PROXY}:8000 resolve;" in server
    assert "server_name api.test;" in "\n".join(made)
    assert (tmp_path / "nginx.main").read_text() == f"include {tmp_path}/*.conf;"


def test_prometheus_gets_the_shipped_file_with_another_address(tmp_path: Path) -> None:
    shipped_with(tmp_path, "prometheus", "prometheus")
    made = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert made["scrape_configs"][0]["static_configs"] == [{"targets": [f"{PROXY}:8000"]}]
    promtool = shutil.which("promtool") or missing("promtool", "apt install prometheus")
    command = [promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_keys_of_the_guide_are_the_secrets_of_the_files(tmp_path: Path) -> None:
    (first,) = re.findall(r"## Start.*?```sh\n(.*?)```", GUIDE, re.DOTALL)
    (sidecar,) = re.findall(r"## One proxy for one run.*?```sh\n(.*?)```", GUIDE, re.DOTALL)
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).write_text(name)
    commands = "".join(line for line in (first + sidecar).splitlines(keepends=True) if "docker" not in line)
    subprocess.run(
        ["sh", "-euc", commands],
        cwd=tmp_path,
        env={"CHUTES_API_KEY": "mine", "PATH": "/bin:/usr/bin"},
        check=True,
    )
    made = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    declared = {Path(each["file"]).name for text in COMPOSE.values() for each in text["secrets"].values()}
    assert made.keys() == declared
    assert {mode_of(path) for path in made.values()} == {0o444}
    assert mode_of(tmp_path / "secrets") == 0o700
    keys = {name for service in COMPOSE.values() for name in service["services"][PROXY]["secrets"]}
    assert keys <= SECRET


def test_the_backup_of_the_guide_is_a_copy_of_the_ledger(tmp_path: Path) -> None:
    (line,) = re.findall(r"^.*sqlite_copy\.py.*$", GUIDE, re.MULTILINE)
    command = line.replace(f"docker compose exec --no-TTY {PROXY} ", "")
    (tmp_path / "deploy").symlink_to(DEPLOY)
    environ = {"PATH": f"{Path(sys.executable).parent}:/bin:/usr/bin"}
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        ledger.execute("CREATE TABLE runs (run_id TEXT)")
        subprocess.run(["sh", "-euc", command], cwd=tmp_path, env=environ, check=True)
    copied = tmp_path / "ridges-proxy.db.copy"
    assert mode_of(copied) == 0o600
    with closing(sqlite3.connect(copied)) as copy:
        assert copy.execute("SELECT name FROM sqlite_schema").fetchall() == [("runs",)]
