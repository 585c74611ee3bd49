"""A stream on `/v1`: its events as they come, how it ends, and the one line in the log when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import orjson
import pytest

from ridges_proxy.calls.stream_relay import HEARTBEAT
from tests.contract_http.failures import STREAMS, UPSTREAM_CANARY, Failure, each
from tests.contract_http.openai_api import (
    CHAT_PATH,
    COST,
    HELLO_HOLD_NANOUSD,
    ask,
    begin,
    error_event,
    stream,
)
from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    DONE,
    HELLO_TOKENS,
    NANOUSD_PER_TOKEN,
    REQUEST_ID,
    RUN,
    answer_of,
    app_of,
    delta,
    sent,
    services_of,
    spent_nanousd,
    sse,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import responses
    from flask import Flask
    from requests import PreparedRequest

    from tests.contract_http.pipe import Pipe

    Lines = Callable[[], list[dict[str, Any]]]

END = b"data: [DONE]\n\n"
RELAYED = [
    "error_event_after_text",
    "bare_error_line",
    "truncated_after_an_event",
    "truncated_inside_an_event",
]
TEXTS_OF_FAILURES = {
    "internal_server_error_as_text",
    "failure_text_inside_a_text",
    "failure_text_in_two_pieces",
}
"""Failures to `/agents` only: here the client reads the text himself."""


def pieces_of(app: Flask) -> Iterator[bytes]:
    reply = begin(app)
    assert reply.status_code == 200
    return reply.iter_encoded()


# --- what a client sees ------------------------------------------------------------------------------------


def test_a_stream_is_the_upstreams_events_then_done_then_the_cost(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi", " there"))
    reply = stream(app)
    assert reply.status_code == 200
    assert reply.data == sse(delta("Hi"), delta(" there")) + END + COST
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["X-Request-ID"] == REQUEST_ID
    assert "Content-Length" not in reply.headers
    assert "X-Run-Cost-USD" not in reply.headers, "they were sent before it was known"


@pytest.mark.parametrize("shows", [True, False])
def test_the_usage_is_asked_for_always_and_shown_on_demand(
    app: Flask, upstream: responses.RequestsMock, *, shows: bool
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    reply = stream(app, stream_options={"include_usage": shows})
    assert sent(upstream)["stream_options"] == {"include_usage": True}
    shown = sse(tokens(10, 5)) if shows else b""
    assert reply.data == sse(delta("Hi")) + shown + END + COST
    assert spent_nanousd(app) == 15 * NANOUSD_PER_TOKEN


def test_the_headers_come_before_the_first_event_and_each_event_before_the_next(
    app: Flask, pipe: Pipe
) -> None:
    pieces = pieces_of(app)
    assert next(pieces) == b""
    for text in ("one", "two", "three"):
        pipe.hand(sse(delta(text)))
        assert next(pieces) == sse(delta(text))
    pipe.hand(sse(DONE))
    assert next(pieces).startswith(END)
    assert list(pieces) == []


def test_silence_is_filled_with_heartbeats(pipe: Pipe) -> None:
    pieces = pieces_of(app_of(HEARTBEAT_SECONDS="0.05"))
    assert [next(pieces) for _ in range(3)] == [b"", HEARTBEAT, HEARTBEAT]
    pipe.hand(sse(delta("Hi")))
    assert next(pieces) == sse(delta("Hi"))
    pipe.hand(sse(DONE))
    assert b"".join(pieces).replace(HEARTBEAT, b"").startswith(END)


def test_an_upstream_that_is_silent_past_a_heartbeat_and_then_refuses_is_told_in_the_stream(
    upstream: responses.RequestsMock,
) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        gevent.sleep(0.12)
        return 429, {}, b"{}"

    upstream.add_callback("POST", CHAT_URL, slow)
    reply = stream(app_of(HEARTBEAT_SECONDS="0.05"))
    assert reply.status_code == 200
    event = error_event("upstream_busy", "rate_limit_error", "The upstream is at capacity")
    assert reply.data.startswith(HEARTBEAT)
    assert reply.data.endswith(event + b": cost 0.000000000 remaining 2.000000000\n\n")


def test_unicode_and_odd_forms_pass_through_byte_for_byte(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    odd = sse('{"choices" : [{"index":0,"delta":{"content":"é\u2028\u0085\U0001f600"}}]}'.encode())
    upstream.post(CHAT_URL, body=odd + sse(DONE))
    assert stream(app, messages=[{"role": "user", "content": "é\U0001f600"}]).data.startswith(odd + END)
    assert sent(upstream)["messages"][0]["content"] == "é\U0001f600"


# --- failures inside the stream ----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", each({k: v for k, v in STREAMS.items() if k not in TEXTS_OF_FAILURES}))
def test_a_failure_inside_the_stream_is_an_error_event_instead_of_done(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, CHAT_URL)
    reply = stream(app)
    message = "The upstream's answer broke off or was not understood"
    if reply.status_code != 200:  # an encoded answer is refused before anything has been sent
        assert (reply.status_code, orjson.loads(reply.data)["error"]["message"]) == (502, message)
        return
    assert error_event("upstream_broken", "server_error", message) in reply.data
    assert END not in reply.data
    assert reply.data.rstrip().split(b"\n\n")[-1].startswith(b": cost ")
    assert UPSTREAM_CANARY.encode() not in reply.data
    assert services_of(app).admission.in_flight == 0


@pytest.mark.parametrize("name", RELAYED)
def test_what_came_before_the_failure_has_been_passed_on_and_is_paid(
    app: Flask, upstream: responses.RequestsMock, name: str
) -> None:
    STREAMS[name].arrange(upstream, CHAT_URL)
    assert stream(app).data.startswith(sse(delta("Half an answer")))
    books = services_of(app).ledger.usage(RUN)
    assert books is not None
    assert (books.held_nanousd, books.in_flight, books.calls) == (0, 0, 1)
    least = (HELLO_TOKENS + len("Half an answer")) * NANOUSD_PER_TOKEN
    assert least <= books.spent_nanousd <= least + 50 * NANOUSD_PER_TOKEN


def test_a_text_that_names_a_failure_is_a_text(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Internal Server Error"))
    assert END in stream(app).data


def test_an_answer_past_its_limit_is_cut_off_with_an_event_that_says_so(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("one", "two", "three"))
    reply = stream(app, max_tokens=2)
    event = error_event("upstream_overran", "server_error", "The upstream did not keep to max_tokens")
    assert reply.data.startswith(sse(delta("one"), delta("two")) + event)
    assert b"three" not in reply.data


def test_a_call_past_its_deadline_ends_with_an_event_that_says_so(pipe: Pipe) -> None:
    pipe.hand(sse(delta("Hi")))
    reply = stream(app := app_of(DEADLINE_SECONDS="0.1"))
    event = error_event("upstream_timeout", "server_error", "The upstream took too long")
    assert reply.data.startswith(sse(delta("Hi")) + event)
    assert spent_nanousd(app) == (HELLO_TOKENS + 2) * NANOUSD_PER_TOKEN


@pytest.mark.usefixtures("pipe")
def test_a_call_that_is_cut_off_at_shutdown_ends_with_an_event_that_says_so(app: Flask) -> None:
    pieces = pieces_of(app)
    next(pieces)
    services_of(app).admission.cut_all()
    assert next(pieces).startswith(error_event("overloaded", "server_error", "The proxy is shutting down"))


def test_a_bug_in_mid_stream_is_told_as_one_and_nothing_of_it(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("canary")

    upstream.post(CHAT_URL, body=answer_of("Hi"))
    monkeypatch.setattr("ridges_proxy.upstream.stream_reader.RelayedCompletion._keep", fail)
    reply = stream(app)
    assert error_event("internal_error", "server_error", "Internal Server Error") in reply.data
    assert b"canary" not in reply.data


def test_the_run_may_be_named_by_a_header(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = {"messages": CHAT["messages"], "stream": True}
    assert ask(app, CHAT_PATH, body, **{"X-Run-Id": RUN}).status_code == 200
    assert spent_nanousd(app) == 4050
    assert ask(app, CHAT_PATH, body).status_code == 400


def test_a_stream_that_brings_nothing_back_costs_its_hold(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=ConnectionResetError())
    assert stream(app).status_code == 502
    assert spent_nanousd(app) == HELLO_HOLD_NANOUSD
