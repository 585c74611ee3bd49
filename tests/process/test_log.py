"""Log lines of a server. `Proxy` also checks at its end that every line is JSON without a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import CANARY, INFERENCE, Proxy, chat
from tests.process.wire import head
from tests.support.app import CHUTES_KEY, PROXY_KEY
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = CANARY.encode()
KEY = PROXY_KEY.encode()


@pytest.fixture(scope="module")
def debug_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that writes all log events."""
    with Proxy(fake_chutes, LOG_LEVEL="DEBUG") as started:
        yield started


@each_row(
    "request_bytes",
    [
        SECRET + b"\r\n\r\n",
        SECRET * 1000 + b"\r\n\r\n",
        b"GET /" + SECRET + b" HTTP/9.9\r\n\r\n",
        b"get / HTTP/1.1\r\n" + SECRET + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization Bearer " + KEY + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: " + KEY + b"\r\n folded " + SECRET + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + SECRET + b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nExpect: " + SECRET + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: " + SECRET + b"\r\n\r\n",
    ],
)
def test_invalid_http_is_refused_and_not_quoted(debug_proxy: Proxy, request_bytes: bytes) -> None:
    before = len(debug_proxy.lines.matching(logger="ridges_proxy.gunicorn"))
    with debug_proxy.connect() as wire:
        wire.send(request_bytes)
        assert 400 <= wire.answer().status <= 501
    line = debug_proxy.lines.wait(before + 1, logger="ridges_proxy.gunicorn")[-1]
    assert (line["event"], line["level"]) == ("Invalid request from ip=127.0.0.1", "WARNING")
    debug_proxy.assert_clean()


def test_the_rest_of_a_body_with_a_too_small_content_length_is_not_quoted(
    debug_proxy: Proxy, run: str
) -> None:
    data = json.dumps(chat(run, "hi")).encode()
    before = len(debug_proxy.lines.matching(event="Invalid request from ip=127.0.0.1"))
    with debug_proxy.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=str(len(data) - 60)) + data + b"\r\n\r\n")
        assert wire.answer().status == 422
        assert wire.answer().status == 400
    debug_proxy.lines.wait(before + 1, event="Invalid request from ip=127.0.0.1")
    debug_proxy.assert_clean()


def test_a_call_has_one_log_line_with_its_cost_and_without_its_text(debug_proxy: Proxy, run: str) -> None:
    answer = debug_proxy.infer(run, headers={"X-Request-ID": f"id-{run}"})
    (line,) = debug_proxy.lines.wait(event="request", run=run)
    assert line["request_id"] == answer.headers["x-request-id"] == f"id-{run}"
    assert (line["status"], line["route"], line["method"]) == (200, INFERENCE, "POST")
    assert (line["completion_tokens"], line["upstream_status"]) == (5, 200)
    assert f"{line['cost_usd']:.9f}" == answer.headers["x-run-cost-usd"]


def test_a_request_id_cannot_forge_a_log_line(debug_proxy: Proxy, run: str) -> None:
    for forged in ("a b", "a\tb", '"}', "x" * 200, "é"):
        answer = debug_proxy.infer(run, headers={"X-Request-ID": forged})
        assert len(answer.headers["x-request-id"]) == 32


@each_row("body", [b"{" + SECRET, b'{"run_id": "' + SECRET + b'\n"}', b"[" * 100_000, b'"' + SECRET + b'"'])
def test_refused_bodies_are_not_quoted(debug_proxy: Proxy, body: bytes) -> None:
    with debug_proxy.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=str(len(body))) + body)
        is_complex = body.startswith(b"[")
        assert wire.answer().outcome == (
            (413, "body_too_complex") if is_complex else (422, "invalid_request")
        )
    debug_proxy.assert_clean()


def test_an_upstream_error_that_quotes_the_prompt_is_not_quoted(debug_proxy: Proxy, run: str) -> None:
    assert debug_proxy.infer(run, directive(**{CANARY: 1})).outcome == (500, "upstream_rejected")
    debug_proxy.lines.wait(event="request", run=run)
    debug_proxy.assert_clean()


def test_no_answer_contains_the_upstream_key_and_no_upstream_call_the_proxy_key(
    debug_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    answer = debug_proxy.infer(run)
    assert CHUTES_KEY not in str(answer)
    assert PROXY_KEY not in json.dumps(chutes.books())


def test_paths_and_queries_are_not_logged(debug_proxy: Proxy, run: str) -> None:
    for path in (f"/agents/usage?run_id={run}&key={PROXY_KEY}", f"/{CANARY}", f"/agents/usage?{CANARY}"):
        debug_proxy.ask("GET", path)
    debug_proxy.infer(run)
    debug_proxy.lines.wait(event="request", run=run)
    debug_proxy.assert_clean()
