"""The shipped nginx files: their syntax, and the requests that a real nginx forwards with them."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.deploy.nginx import HOST, Nginx, certify
from tests.process.fake_chutes_control import ROOT, Upstream, directive
from tests.process.server import INFERENCE, Proxy, chat
from tests.support.app import ADMIN_KEY, AGENT, OPERATOR, PROXY_KEY, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"Content-Type": "application/json"}
FRONT_FILE, SANDBOX_FILE = (
    (ROOT / "deploy" / name).read_text() for name in ("nginx.conf", "nginx-sandbox.conf")
)

MIGRATION = (ROOT / "docs" / "operating" / "migration.md").read_text()
"""It has an nginx file for a server that forwards to the proxy."""


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that allows one client address and trusts one reverse proxy."""
    with Proxy(fake_chutes, TRUSTED_PROXY_COUNT="1", ALLOWED_IPS="127.0.0.2") as started:
        yield started


@pytest.fixture(scope="module")
def front(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("front")
    certify(folder)
    with Nginx(folder, "nginx.conf", {"127.0.0.1:8000": f"127.0.0.1:{proxy.port}"}) as started:
        yield started


@pytest.fixture(scope="module")
def sandbox(front: Nginx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The nginx inside a sandbox's network, which forwards to the one in front of the proxy."""
    folder = tmp_path_factory.mktemp("sandbox")
    key = folder / "key.conf"
    key.write_text(f'proxy_set_header Authorization "Bearer {PROXY_KEY}";\n')
    changes = {
        "include /etc/nginx/ridges-proxy-key.conf;": f"include {key}; proxy_bind 127.0.0.2;",
        "/etc/ssl/certs/ca-certificates.crt": str(front._folder / "fullchain.pem"),
    }
    upstream = f"upstream {HOST} {{ server 127.0.0.1:{front.port}; }}"
    with Nginx(folder, "nginx-sandbox.conf", changes, upstream) as started:
        yield started


def call(nginx: Nginx, run: str, source: str = "127.0.0.2", **headers: str) -> tuple[int, object]:
    sent = {**JSON, **AGENT, **{name.replace("_", "-"): value for name, value in headers.items()}}
    reply = nginx.ask("POST", INFERENCE, json.dumps(chat(run, "hi")).encode(), sent, source=source)
    return reply.status, reply.json


def test_nginx_accepts_the_files(front: Nginx, sandbox: Nginx) -> None:
    for nginx in (front, sandbox):
        result = nginx.check()
        assert result.returncode == 0, result.stderr
        assert "[warn]" not in result.stderr


def test_a_call_is_forwarded_with_its_answer_and_headers(front: Nginx, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    body = json.dumps(chat(run, "hi")).encode()
    reply = front.ask("POST", INFERENCE, body, {**JSON, **AGENT, "X-Request-ID": "mine"}, source="127.0.0.2")
    assert (reply.status, reply.headers["x-request-id"]) == (200, "mine")
    assert float(reply.headers["x-run-cost-usd"]) > 0
    assert "max-age" in reply.headers["strict-transport-security"]
    assert proxy.lines.wait(event="request", run=run)


def test_the_proxy_sees_the_real_client_address_and_ignores_forged_headers(front: Nginx) -> None:
    assert call(front, "run", "127.0.0.2")[0] == 200
    assert call(front, "run", "127.0.0.1")[0] == 403
    assert call(front, "run", "127.0.0.1", X_Forwarded_For="127.0.0.2")[0] == 403
    assert call(front, "run", "127.0.0.1", X_Forwarded_For='"127.0.0.2')[0] == 403
    assert call(front, "run", "127.0.0.2", X_Forwarded_For="203.0.113.9")[0] == 200


def test_events_are_forwarded_without_buffering(front: Nginx, chutes: Upstream) -> None:
    request = {**chat("stream", directive(gate="event", gate_at=1)), "stream": True}
    with closing(front.connect("127.0.0.2")) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(request), {**JSON, **AGENT})
        chutes.wait(at_gate=1)
        reply = connection.getresponse()
        assert reply.readline().startswith(b"data: ")
        chutes.release("event")
        assert b"[DONE]" in reply.read()


def test_a_body_that_is_too_large_is_rejected_by_the_proxy(front: Nginx) -> None:
    body = json.dumps(chat("run", "x" * (4 << 20))).encode()
    reply = front.ask("POST", INFERENCE, body, {**JSON, **AGENT}, source="127.0.0.2")
    assert reply.outcome == (413, "body_too_large")


def test_a_request_without_tls_is_redirected_to_https(front: Nginx) -> None:
    reply = front.ask("POST", INFERENCE, b"{}", {**JSON, **AGENT, "Host": HOST}, tls=False)
    assert (reply.status, reply.headers["location"]) == (308, f"https://{HOST}{INFERENCE}")


def test_a_certificate_can_be_renewed_without_tls(front: Nginx) -> None:
    challenge = "/.well-known/acme-challenge/token"
    path = front._folder / f"html{challenge}"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"proof")
    reply = front.ask("GET", challenge, headers={"Host": HOST}, tls=False)
    assert (reply.status, reply.body) == (200, b"proof")


def test_the_guide_gets_the_certificate_before_it_installs_the_file_that_names_it() -> None:
    guide = (ROOT / "deploy" / "README.md").read_text()
    steps = [guide.index(each) for each in ("certbot certonly", "/etc/nginx/conf.d/", "nginx -t")]
    assert steps == sorted(steps)


def test_operators_come_from_their_own_addresses(front: Nginx) -> None:
    for path in ("/admin/runs", "/metrics", "/dashboard/sign-in"):
        assert front.ask("GET", path, headers=OPERATOR).status == 200
        assert front.ask("GET", path, headers=OPERATOR, source="127.0.0.2").status == 403
    assert "Secure" in front.ask("GET", "/dashboard/sign-in").headers["set-cookie"]


@pytest.mark.parametrize("file", [FRONT_FILE, SANDBOX_FILE, MIGRATION], ids=["front", "sandbox", "migration"])
def test_nginx_outlasts_the_wait_and_the_deadline_of_a_call_and_never_repeats_one(file: str) -> None:
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", file)
    settings = settings_of()
    assert int(seconds) > settings.hold_wait_seconds + settings.deadline_seconds
    assert "proxy_next_upstream off;" in file
    assert "proxy_buffering off;" in file


def test_a_silent_call_ends_at_the_read_timeout(proxy: Proxy, chutes: Upstream, tmp_path: Path) -> None:
    certify(tmp_path)
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{proxy.port}",
        "proxy_read_timeout 390s": "proxy_read_timeout 1s",
    }
    with Nginx(tmp_path, "nginx.conf", changes) as short_limits_proxy:
        body = json.dumps(chat(uuid.uuid4().hex, directive(gate="silent"))).encode()
        assert (
            short_limits_proxy.ask("POST", INFERENCE, body, {**JSON, **AGENT}, source="127.0.0.2").status
            == 504
        )
    chutes.release("silent")


def test_agents_in_a_sandbox_call_without_a_key(sandbox: Nginx) -> None:
    run = uuid.uuid4().hex
    body = json.dumps(chat(run, "hi")).encode()
    for extra in ({}, {"Authorization": "Bearer stolen"}, {"X-Forwarded-For": "203.0.113.9, 203.0.113.8"}):
        reply = sandbox.ask("POST", INFERENCE, body, {**JSON, **extra}, tls=False)
        assert reply.status == 200, reply.body
    assert sandbox.ask("GET", f"/agents/usage?run_id={run}", tls=False).json["calls"] == 3


def test_agents_in_a_sandbox_may_use_all_routes_for_agents(sandbox: Nginx) -> None:
    run = uuid.uuid4().hex
    later = {**chat(run, "hi"), "evaluation_run_id": run}
    for path, fields in (
        ("/v1/chat/completions", chat(run, "hi")),
        ("/api/inference", later),
        ("/api/v1/chat/completions", chat(run, "hi")),
    ):
        reply = sandbox.ask("POST", path, json.dumps(fields).encode(), JSON, tls=False)
        assert reply.status == 200, reply.body
    assert sandbox.ask("GET", f"/api/usage?evaluation_run_id={run}", tls=False).json["used_cost_usd"] > 0
    assert sandbox.ask("GET", "/api/v1/usage", headers={"X-Run-Id": run}, tls=False).json["requests"] == 3


@pytest.mark.parametrize(
    "path", ["/admin/runs", "/metrics", "/dashboard", "/docs", "/", "/agents", "/%61dmin/runs"]
)
def test_routes_of_operators_cannot_be_reached_from_a_sandbox(sandbox: Nginx, path: str) -> None:
    reply = sandbox.ask("GET", path, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, tls=False)
    assert reply.status in {301, 404}
