"""A stream as an answer: how it begins, what it shows, how it says that it is over, and what it has cost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
import orjson
import pytest
from gevent.event import Event

from ridges_proxy.relay import HEARTBEAT
from tests.contract_http.failures import STREAMS, UPSTREAM_CANARY, Failure, each
from tests.contract_http.openai_calls import chat, openai_envelope
from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    DONE,
    HEADERS,
    HELLO_TOKENS,
    NANOUSD_PER_TOKEN,
    REQUEST_ID,
    RUN,
    answer_of,
    app_of,
    delta,
    parts_of,
    sent,
    spent_nanousd,
    sse,
    tokens,
)
from tests.support.app import CHUTES_KEY, PROXY_KEY

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest
    from werkzeug.test import TestResponse

ANSWER = "canary-of-the-answer"
PROMPT = "canary-of-the-prompt"
ANSWERED = sse(delta("Hel"), delta("lo"), delta(None, finish_reason="stop"), tokens(10, 5), DONE)
COST = b": cost 0.000004050 remaining 1.999995950\n\n"
SENT_NANOUSD = HELLO_TOKENS * NANOUSD_PER_TOKEN

BROKEN = openai_envelope(
    "The upstream's answer broke off or was not understood", "server_error", "upstream_broken"
)


def stream(app: Flask, **fields: object) -> TestResponse:
    """A stream that was read to its end."""
    reply = chat(app, {"stream": True, **fields})
    reply.get_data()
    return reply


def resolved(app: Flask) -> bool:
    """Whether nothing is held, and nothing in flight."""
    books = parts_of(app).ledger.usage(RUN)
    return books is not None and (books.held_nanousd, books.in_flight, parts_of(app).admission.in_flight) == (
        0,
        0,
        0,
    )


# --- how it begins


def test_a_stream_begins_as_one_that_no_proxy_keeps_back(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    reply = stream(app)
    assert reply.status_code == 200
    assert reply.content_type.startswith("text/event-stream")
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Request-ID"] == REQUEST_ID
    assert "Content-Length" not in reply.headers
    assert "X-Run-Cost-USD" not in reply.headers


def test_the_headers_are_there_before_the_first_event(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    reply = app.test_client().post(
        "/v1/chat/completions", json={**CHAT, "stream": True}, headers=HEADERS, buffered=False
    )
    pieces = reply.iter_encoded()
    assert reply.status_code == 200
    assert next(pieces).startswith(sse(delta("Hel")))  # whether or not all of it came in one go
    reply.close()


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_the_usage_is_always_asked_for(
    app: Flask, upstream: responses.RequestsMock, options: dict[str, bool] | None
) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    stream(app, stream_options=options)
    assert sent(upstream)["stream"] is True
    assert sent(upstream)["stream_options"] == {"include_usage": True}


def test_options_of_a_stream_mean_nothing_to_a_whole_answer(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=b"{}")
    chat(app, stream_options={"include_usage": True})
    assert "stream_options" not in sent(upstream)


# --- what it shows, and its end


def test_a_stream_is_the_upstreams_events_the_end_and_what_it_cost(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    shown = sse(delta("Hel"), delta("lo"), delta(None, finish_reason="stop"))
    assert stream(app).data == shown + sse(DONE) + COST
    assert spent_nanousd(app) == 15 * NANOUSD_PER_TOKEN
    assert resolved(app)


def test_a_client_that_asked_sees_the_usage(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    reply = stream(app, stream_options={"include_usage": True})
    assert reply.data == ANSWERED + COST


def test_letters_of_all_kinds_come_through(app: Flask, upstream: responses.RequestsMock) -> None:
    odd = "e\u0301 \u2028\u0085 \U0001f600 \r\n\n data: [DONE]"
    upstream.post(CHAT_URL, body=answer_of(odd))
    first = stream(app).data.split(b"\n\n")[0]
    assert orjson.loads(first.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == odd


def test_an_upstream_without_an_end_mark_is_whole_by_its_finish(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Hi", finish_reason="stop")))
    assert stream(app).data.count(b"data: [DONE]") == 1
    assert spent_nanousd(app) == SENT_NANOUSD + 2 * NANOUSD_PER_TOKEN


# --- failures in the middle

TEXT_THAT_MEANS_FAILURE = {
    "internal_server_error_as_text",
    "failure_text_inside_a_text",
    "failure_text_in_two_pieces",
}
"""The relay does not read the text: it has been shown by then."""

FAILING = {name: failure for name, failure in STREAMS.items() if name not in TEXT_THAT_MEANS_FAILURE}


@pytest.mark.parametrize("failure", each(FAILING))
def test_a_stream_that_fails_ends_in_an_error_event_and_without_the_end_mark(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, CHAT_URL)
    reply = stream(app)
    if reply.status_code != 200:  # nothing had been shown
        assert (reply.status_code, reply.json) == (502, BROKEN)
    else:
        *_, error, cost = reply.data.removesuffix(b"\n\n").split(b"\n\n")
        assert orjson.loads(error.removeprefix(b"data: ")) == BROKEN
        assert cost.startswith(b": cost 0.000")
    assert b"[DONE]" not in reply.data
    assert UPSTREAM_CANARY.encode() not in reply.data
    assert resolved(app)
    spent = spent_nanousd(app)
    assert spent is not None
    assert spent >= SENT_NANOUSD


def test_what_came_before_a_failure_is_shown(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Half")) + b'{"error": "odd"}\n')
    assert stream(app).data.startswith(sse(delta("Half")) + b'data: {"error":')
    assert spent_nanousd(app) == SENT_NANOUSD + 4 * NANOUSD_PER_TOKEN


def test_an_answer_past_its_limit_is_cut_before_it_is_shown(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=sse(*[delta("a")] * 5, tokens(10, 5), DONE))
    reply = stream(app, max_tokens=3)
    assert reply.data.startswith(sse(*[delta("a")] * 3) + b'data: {"error":')
    assert b'"code":"upstream_overran"' in reply.data
    assert resolved(app)


def test_a_bug_in_a_stream_is_told_as_one_and_settles(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)

    def fail(*_args: object) -> None:
        raise RuntimeError(ANSWER)

    monkeypatch.setattr("ridges_proxy.upstream.completion.RelayedCompletion._keep", fail)
    reply = stream(app)
    assert b'"code":"internal_error"' in reply.data
    assert ANSWER.encode() not in reply.data
    assert resolved(app)


# --- silence, and the client's leaving


def silent(upstream: responses.RequestsMock) -> Event:
    """An upstream that says nothing until the event is set."""
    go = Event()

    def answer(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        go.wait()
        return 200, {}, ANSWERED

    upstream.add_callback("POST", CHAT_URL, answer)
    return go


def opened(app: Flask) -> TestResponse:
    body = {**CHAT, "stream": True}
    return app.test_client().post("/v1/chat/completions", json=body, headers=HEADERS, buffered=False)


def test_a_silent_upstream_is_told_from_a_dead_connection(upstream: responses.RequestsMock) -> None:
    go = silent(upstream)
    reply = opened(app_of(HEARTBEAT_SECONDS="0.1"))
    pieces = reply.iter_encoded()
    assert [next(pieces), next(pieces)] == [HEARTBEAT] * 2
    go.set()
    rest = b"".join(pieces).replace(HEARTBEAT, b"")
    assert rest.endswith(sse(DONE) + COST)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_client_that_leaves_ends_the_call_and_pays_for_what_was_sent(
    upstream: responses.RequestsMock, taken: int
) -> None:
    app = app_of(HEARTBEAT_SECONDS="0.1")
    silent(upstream)
    reply = opened(app)
    pieces = reply.iter_encoded()
    for _ in range(taken):
        next(pieces)
    reply.close()
    assert resolved(app)
    assert spent_nanousd(app) == (HELLO_TOKENS + 8192) * NANOUSD_PER_TOKEN


def test_a_stream_that_is_never_taken_settles_when_it_is_closed(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    opened(app).close()
    assert resolved(app)


# --- the log


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in parsed if line["event"] == "request"]


def test_a_stream_has_one_line_when_it_is_over(
    capsys: pytest.CaptureFixture[str], upstream: responses.RequestsMock
) -> None:
    app = app_of()
    upstream.post(CHAT_URL, body=sse(delta(ANSWER), tokens(10, 5), DONE))
    reply = opened(app)
    pieces = reply.iter_encoded()
    next(pieces)
    assert lines(capsys) == []
    assert b"".join(pieces)
    reply.close()
    (line,) = lines(capsys)
    assert (line["status"], line["code"], line["cost_usd"]) == (200, None, 4050 / 1e9)
    assert (line["run"], line["request_id"], line["route"]) == (RUN, REQUEST_ID, "/v1/chat/completions")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (10, 5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (sse(delta(ANSWER)), "upstream_broken"),
        (sse(delta(ANSWER)) + b'{"error": "canary-of-the-answer"}\n', "upstream_broken"),
        (sse(*[delta("a")] * 9), "upstream_overran"),
    ],
)
def test_the_line_of_a_stream_that_failed_has_the_code_and_the_cost(
    capsys: pytest.CaptureFixture[str],
    upstream: responses.RequestsMock,
    body: bytes,
    code: str,
) -> None:
    app = app_of()
    upstream.post(CHAT_URL, body=body)
    stream(app, max_tokens=5).close()
    (line,) = lines(capsys)
    assert (line["status"], line["code"]) == (200, code)
    assert line["cost_usd"] == (spent_nanousd(app) or 0) / 1e9 > 0


def test_the_line_of_a_client_that_left_says_so(
    upstream: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    app = app_of(HEARTBEAT_SECONDS="0.1")
    silent(upstream)
    reply = opened(app)
    pieces = reply.iter_encoded()
    next(pieces)
    reply.close()
    (line,) = lines(capsys)
    assert line["code"] == "client_gone"
    assert line["cost_usd"] > 0


def test_no_line_tells_what_was_said_or_a_key(
    capsys: pytest.CaptureFixture[str], upstream: responses.RequestsMock
) -> None:
    app = app_of()
    upstream.post(CHAT_URL, body=sse(delta(ANSWER), {"error": ANSWER}))
    stream(app, messages=[{"role": "user", "content": PROMPT}], user=PROMPT).close()
    upstream.replace("POST", CHAT_URL, body=ANSWER, status=400)
    stream(app, messages=[{"role": "user", "content": PROMPT}])
    stream(app, messages=[{"role": PROMPT, PROMPT: PROMPT}])
    told = capsys.readouterr().err
    assert told.count('"event":"request"') == 3
    for secret in (ANSWER, PROMPT, CHUTES_KEY, PROXY_KEY):
        assert secret not in told


def test_nothing_is_left_running(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=ANSWERED)
    for _ in range(3):
        reply = opened(app)
        with suppress(StopIteration):
            next(reply.iter_encoded())
        reply.close()
    gevent.idle()
    assert resolved(app)
