"""No key, token or prompt in answers, metrics, log lines or the process list."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from ridges_proxy.auth.run_tokens import RunTokens
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, SECRETS, Proxy, chat, wait_until
from tests.process.wire import PATIENCE_SECONDS, head, post
from tests.support.app import ADMIN_KEY, PROXY_KEY
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

TOKEN_KEY = "canary-of-the-run-token-key-0123456789"
OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}
MODEL = "deepseek-ai/DeepSeek-V3-0324"
UNKNOWN_PATH = "/unknown"
PAGES = (
    "/metrics",
    "/ready",
    "/health",
    "/openapi.json",
    "/docs",
    "/admin/runs",
    "/admin/runs/run",
    "/admin/receipts",
    "/agents/usage?run_id=run",
    "/v1/models",
    f"/v1/models/{MODEL}",
    UNKNOWN_PATH,
)
DASHBOARD = ("/dashboard", "/dashboard/run?run_id=run", "/dashboard/sign-in")
INJECTIONS = ("a\r\n\tX-Evil: 1", '"}\\n{"event":"forged"', "%0d%0aX-Evil:%201", "\x7f\x1b[2J")
"""Values that try to add a header or a log line."""

FAULTS = ("auth_invalid", "invalid_request", "error_line", "html", "malformed", "exhausted")


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy on a ledger with receipts, which soon forgets idle runs."""
    with Proxy(
        fake_chutes,
        ADMIN_API_KEY=ADMIN_KEY,
        RUN_TOKEN_KEY=TOKEN_KEY,
        LOG_LEVEL="DEBUG",
        LEDGER_URL=f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db",
        RUN_TTL_SECONDS="1",
        SWEEP_INTERVAL_SECONDS="0.1",
    ) as started:
        yield started
        assert TOKEN_KEY not in "".join(started.lines.raw)


def secrets_in(content: bytes) -> list[str]:
    return [secret for secret in (*SECRETS, TOKEN_KEY) if secret.encode() in content]


def head_and_body(answer: Answer) -> bytes:
    return json.dumps(answer.headers).encode() + answer.body


def test_no_page_contains_a_key_or_a_prompt(proxy: Proxy) -> None:
    token, _ = RunTokens(TOKEN_KEY, None).issue("run", 600)
    assert proxy.infer("run", headers={"Authorization": f"Bearer {token}"}).status == 200
    assert proxy.infer("forgotten").status == 200
    wait_until(
        lambda: b"forgotten" in proxy.ask("GET", "/admin/receipts", headers=OPERATOR).body, "a receipt"
    )
    for page in PAGES:
        answers = [proxy.ask("GET", page), proxy.ask("GET", page, headers=OPERATOR)]
        assert page == UNKNOWN_PATH or 200 in {answer.status for answer in answers}, page
        for content in map(head_and_body, answers):
            assert not secrets_in(content), page
            assert token.encode() not in content
    assert token not in "".join(proxy.lines.raw)


def test_the_dashboard_contains_no_key_and_no_prompt(proxy: Proxy) -> None:
    token, _ = RunTokens(TOKEN_KEY, None).issue("run", 600)
    assert proxy.infer("run", headers={"Authorization": f"Bearer {token}"}).status == 200
    with requests.Session() as browser:
        browser.trust_env = False
        sign_in = f"http://127.0.0.1:{proxy.port}/dashboard/sign-in"
        for key in ("not-the-key", ADMIN_KEY):
            page = browser.get(sign_in, timeout=PATIENCE_SECONDS)
            form = {
                "key": key,
                "csrf_token": page.text.partition('name="csrf_token" value="')[2].split('"')[0],
            }
            page = browser.post(sign_in, data=form, timeout=PATIENCE_SECONDS)
            assert not secrets_in(page.content)
            assert key not in page.text
        for path in DASHBOARD:
            page = browser.get(f"http://127.0.0.1:{proxy.port}{path}", timeout=PATIENCE_SECONDS)
            assert (page.status_code, page.history) == (200, []), path
            content = f"{page.headers}{page.text}".encode()
            assert not secrets_in(content), path
            assert token.encode() not in content


@each_row("path", ["/agents/inference", "/agents/embedding", "/v1/chat/completions"])
def test_no_error_contains_a_key_or_a_prompt(proxy: Proxy, path: str) -> None:
    model = {"model": MODEL}
    asked = [
        *({**chat("errors", directive(fault=fault)), **model} for fault in FAULTS),
        {**chat("errors", "hi"), "model": "no-such-model"},
        {"run_id": ["errors"], "messages": CANARY, "input": 5},
        {**chat("errors", "hi"), "max_tokens": "many", "stop": {"a": CANARY}},
    ]
    for body in asked:
        answer = proxy.ask("POST", path, body)
        # A successful answer may repeat its own prompt.
        if answer.status != 200 or answer.body.startswith(b'{"error"'):
            assert not secrets_in(head_and_body(answer)), body


@each_row("key", [PROXY_KEY[:-1], PROXY_KEY + "x", ADMIN_KEY, f"{PROXY_KEY}\x00", "é" * 9])
def test_a_wrong_key_is_not_repeated(proxy: Proxy, key: str) -> None:
    with proxy.connect() as wire:
        wire.send(head("/agents/usage?run_id=a", key=key, method="GET"))
        try:
            answer = wire.answer()
        except EOFError:
            return  # the connection was closed without an answer
    assert 400 <= answer.status < 500
    assert not secrets_in(head_and_body(answer))
    assert key.encode() not in head_and_body(answer)


def test_the_process_list_contains_no_key(proxy: Proxy) -> None:
    for pid in (proxy.pid, *proxy.workers()):
        content = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes()
        assert b"gunicorn" in content
        assert not secrets_in(content)


@each_row("run", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "\x1b[2J", "a\u2028b"])
def test_a_run_id_cannot_write_headers_or_lines(proxy: Proxy, run: str) -> None:
    with proxy.connect() as wire:
        wire.send(post("/agents/inference", chat(run, "hi")))
        answer = wire.answer()
    assert answer.status == 422
    assert "x-evil" not in answer.headers
    assert not any(line.startswith("X-Evil") for line in proxy.lines.raw)


@each_row("name, value", product(("X-Request-ID", "X-Run-Id"), INJECTIONS))
def test_a_header_cannot_write_headers_or_lines(proxy: Proxy, name: str, value: str) -> None:
    body = json.dumps(chat("run", "hi")).encode()
    given = head("/agents/inference", Content_Length=str(len(body))).decode().removesuffix("\r\n")
    with proxy.connect() as wire:
        wire.send(f"{given}{name}: {value}\r\n\r\n".encode("latin-1") + body)
        answer = wire.answer()
    assert "x-evil" not in answer.headers
    assert value not in answer.headers.get("x-request-id", "")
    assert not any('"event":"forged"' in line.replace(" ", "") for line in proxy.lines.raw)
