"""What the server writes. That every line is JSON without a secret is checked as each `Proxy` ends, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import CANARY, INFERENCE, Proxy, chat
from tests.process.wire import head
from tests.support.app import CHUTES_KEY, PROXY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = CANARY.encode()
KEY = PROXY_KEY.encode()


@pytest.fixture(scope="module")
def debugged(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy that says all it ever says."""
    with Proxy(fake_chutes, LOG_LEVEL="DEBUG") as started:
        yield started


@pytest.mark.parametrize(
    "nonsense",
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
    ids=range(9),
)
def test_what_is_not_http_is_refused_and_not_quoted(debugged: Proxy, nonsense: bytes) -> None:
    before = len(debugged.lines.matching(logger="ridges_proxy.gunicorn"))
    with debugged.connect() as wire:
        wire.send(nonsense)
        assert 400 <= wire.answer().status <= 501
    line = debugged.lines.wait(before + 1, logger="ridges_proxy.gunicorn")[-1]
    assert (line["event"], line["level"]) == ("Invalid request from ip=127.0.0.1", "WARNING")
    debugged.assert_clean()


def test_the_rest_of_a_prompt_that_was_announced_too_short_is_not_quoted(debugged: Proxy, run: str) -> None:
    data = json.dumps(chat(run, "hi")).encode()
    before = len(debugged.lines.matching(event="Invalid request from ip=127.0.0.1"))
    with debugged.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=str(len(data) - 60)) + data + b"\r\n\r\n")
        assert wire.answer().status == 422
        assert wire.answer().status == 400
    debugged.lines.wait(before + 1, event="Invalid request from ip=127.0.0.1")
    debugged.assert_clean()


def test_a_call_has_one_line_with_its_cost_and_none_of_its_words(debugged: Proxy, run: str) -> None:
    answer = debugged.infer(run, headers={"X-Request-ID": f"id-{run}"})
    (line,) = debugged.lines.wait(event="request", run=run)
    assert line["request_id"] == answer.headers["x-request-id"] == f"id-{run}"
    assert (line["status"], line["route"], line["method"]) == (200, INFERENCE, "POST")
    assert (line["completion_tokens"], line["upstream_status"]) == (5, 200)
    assert f"{line['cost_usd']:.9f}" == answer.headers["x-run-cost-usd"]


def test_a_request_id_cannot_forge_a_line(debugged: Proxy, run: str) -> None:
    for forged in ("a b", "a\tb", '"}', "x" * 200, "é"):
        answer = debugged.infer(run, headers={"X-Request-ID": forged})
        assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    "body", [b"{" + SECRET, b'{"run_id": "' + SECRET + b'\n"}', b"[" * 100_000, b'"' + SECRET + b'"']
)
def test_bodies_that_are_refused_are_not_quoted(debugged: Proxy, body: bytes) -> None:
    with debugged.connect() as wire:
        wire.send(head(INFERENCE, Content_Length=str(len(body))) + body)
        assert wire.answer().outcome == (422, "invalid_request")
    debugged.assert_clean()


def test_upstream_failures_that_quote_the_prompt_are_not_quoted(debugged: Proxy, run: str) -> None:
    assert debugged.infer(run, directive(**{CANARY: 1})).outcome == (500, "upstream_rejected")
    debugged.lines.wait(event="request", run=run)
    debugged.assert_clean()


def test_the_key_goes_upstream_and_nowhere_else(debugged: Proxy, chutes: Upstream, run: str) -> None:
    answer = debugged.infer(run)
    assert CHUTES_KEY not in str(answer)
    assert PROXY_KEY not in json.dumps(chutes.books())


def test_paths_and_queries_are_not_logged(debugged: Proxy, run: str) -> None:
    for path in (f"/agents/usage?run_id={run}&key={PROXY_KEY}", f"/{CANARY}", f"/agents/usage?{CANARY}"):
        debugged.ask("GET", path)
    debugged.infer(run)
    debugged.lines.wait(event="request", run=run)
    debugged.assert_clean()
