"""A stream on `/v1`: its events, its end, and its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import gevent
import orjson
import pytest

from ridges_proxy.calls.stream_relay import HEARTBEAT
from tests.contract_http.failures import STREAMS, UPSTREAM_CANARY
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
from tests.support.app import CHUTES_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import responses
    from flask import Flask
    from requests import PreparedRequest

    from tests.contract_http.pipe import Pipe

END = b"data: [DONE]\n\n"
RELAYED = [
    "error_event_after_text",
    "bare_error_line",
    "truncated_after_an_event",
    "truncated_inside_an_event",
]
MESSAGES_INSIDE = {
    "bare_error_line": "Unhandled exception during response stream: exhausted all available targets to no"
    f" avail {UPSTREAM_CANARY}",
    "error_event_after_text": UPSTREAM_CANARY,
}
"""The streams that have an error object after the first event, and its message."""

TEXTS_OF_FAILURES = {
    "internal_server_error_as_text",
    "failure_text_inside_a_text",
    "failure_text_in_two_pieces",
}
"""Failures on `/agents` only. On `/v1` the client reads the text itself."""


def pieces_of(app: Flask) -> Iterator[bytes]:
    reply = begin(app)
    assert reply.status_code == 200
    return reply.iter_encoded()


# --- the events of a stream --------------------------------------------------------------------------------


def test_a_stream_has_the_upstreams_events_then_done_then_the_cost(
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
    assert "X-Run-Cost-USD" not in reply.headers, "headers are sent before the cost is known"


def test_the_usage_is_always_asked_for_upstream_and_shown_on_demand(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))

    def check(include_usage: bool) -> None:  # noqa: FBT001 - a row
        app = app_of()
        reply = stream(app, stream_options={"include_usage": include_usage})
        assert sent(upstream)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        usage_event = sse(tokens(10, 5)) if include_usage else b""
        assert reply.data == sse(delta("Hi")) + usage_event + END + COST
        assert spent_nanousd(app) == 15 * NANOUSD_PER_TOKEN

    check_rows([True, False], check)


def test_headers_and_events_are_sent_at_once(app: Flask, pipe: Pipe) -> None:
    pipe.hand(sse(delta("one")))
    pieces = pieces_of(app)
    assert next(pieces) == sse(delta("one"))
    for text in ("two", "three"):
        pipe.hand(sse(delta(text)))
        assert next(pieces) == sse(delta(text))
    pipe.hand(sse(DONE))
    assert next(pieces).startswith(END)
    assert list(pieces) == []


def test_heartbeats_are_sent_while_the_upstream_is_silent(pipe: Pipe) -> None:
    pieces = pieces_of(app_of(HEARTBEAT_SECONDS="0.05"))
    assert [next(pieces) for _ in range(3)] == [HEARTBEAT] * 3
    pipe.hand(sse(delta("Hi")))
    assert next(pieces) == sse(delta("Hi"))
    pipe.hand(sse(DONE))
    assert b"".join(pieces).replace(HEARTBEAT, b"").startswith(END)


def test_an_upstream_error_after_a_heartbeat_becomes_an_event(
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
    assert reply.data.endswith(event + b": cost 0.000000000 remaining 2.000000000 state ok\n\n")


def test_unicode_and_unusual_spacing_pass_through_byte_for_byte(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    event = sse('{"choices" : [{"index":0,"delta":{"content":"é\u2028\u0085\U0001f600"}}]}'.encode())
    upstream.post(CHAT_URL, body=event + sse(DONE))
    assert stream(app, messages=[{"role": "user", "content": "é\U0001f600"}]).data.startswith(event + END)
    assert sent(upstream)["messages"][0]["content"] == "é\U0001f600"


# --- failures inside the stream ----------------------------------------------------------------------------


def test_a_failure_inside_the_stream_is_an_error_event_instead_of_done(
    upstream: responses.RequestsMock,
) -> None:
    def check(name: str) -> None:
        app = app_of()
        upstream.reset()
        STREAMS[name].arrange(upstream, CHAT_URL)
        reply = stream(app)
        message = "The upstream's answer broke off or was not understood"
        if reply.status_code != 200:  # it is refused before anything has been sent
            assert (reply.status_code, orjson.loads(reply.data)["error"]["message"]) == (502, message)
            return
        assert error_event("upstream_broken", "server_error", message) in reply.data
        assert END not in reply.data
        assert reply.data.rstrip().split(b"\n\n")[-1].startswith(b": cost ")
        assert UPSTREAM_CANARY.encode() not in reply.data
        assert services_of(app).admission.in_flight == 0

    check_rows([name for name in STREAMS if name not in TEXTS_OF_FAILURES | MESSAGES_INSIDE.keys()], check)


def test_an_error_inside_the_stream_keeps_its_message_if_that_has_no_secret(
    upstream: responses.RequestsMock,
) -> None:
    unknown = "The upstream's answer broke off or was not understood"
    half = delta("Half an answer")
    openrouter = {"error": {"message": "gone", "code": 502}, **delta("", finish_reason="error")}
    rows: list[tuple[bytes, str]] = [
        *((cast("bytes", STREAMS[name].body), message) for name, message in MESSAGES_INSIDE.items()),
        (sse(half, {"error": {"message": "out of memory", "code": 500}}), "out of memory"),
        (sse(half, {"object": "error", "message": "no room", "code": 503}), "no room"),
        (sse(half, openrouter), "gone"),
        (sse(half) + b'{"status":500,"detail":"no target"}\n', "no target"),
        (sse(half, {"error": f"{CHUTES_KEY} is wrong"}), unknown),
        (sse(half, {"error": {"code": 500}}), unknown),
    ]

    def check(row: tuple[bytes, str]) -> None:
        body, message = row
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        reply = stream(app_of())
        assert reply.status_code == 200
        assert error_event("upstream_broken", "server_error", message) in reply.data
        assert END not in reply.data

    check_rows(rows, check)


def test_an_error_in_place_of_the_first_event_has_its_status_and_message_and_costs_nothing(
    upstream: responses.RequestsMock,
) -> None:
    message = "The prompt exceeds the context length"
    too_long = {"message": message, "code": 400}
    rows: list[tuple[bytes, int, str, str]] = [
        (sse({"error": too_long}), 400, "upstream_rejected", message),
        (b": ping\n\n" + sse({"error": too_long}, DONE), 400, "upstream_rejected", message),
        (sse({"error": "no target"}), 502, "upstream_failed", "no target"),
        (sse({"error": f"{CHUTES_KEY} is wrong"}), 502, "upstream_failed", "The upstream failed"),
        (
            sse({"error": {"message": "busy", "code": 429}}),
            429,
            "upstream_busy",
            "The upstream is at capacity",
        ),
    ]

    def check(row: tuple[bytes, int, str, str]) -> None:
        body, status, code, message = row
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        reply = stream(app)
        error = orjson.loads(reply.data)["error"]
        assert (reply.status_code, error["code"], error["message"]) == (status, code, message)
        assert spent_nanousd(app) == 0

    check_rows(rows, check)


@pytest.mark.usefixtures("no_pauses")
def test_the_events_before_the_failure_are_passed_on_and_charged(upstream: responses.RequestsMock) -> None:
    def check(name: str) -> None:
        app = app_of()
        upstream.reset()
        STREAMS[name].arrange(upstream, CHAT_URL)
        assert stream(app).data.startswith(sse(delta("Half an answer")))
        usage = services_of(app).ledger.usage(RUN)
        assert usage is not None
        assert (usage.held_nanousd, usage.in_flight, usage.calls) == (0, 0, 1)
        least = (HELLO_TOKENS + len("Half an answer")) * NANOUSD_PER_TOKEN
        assert least <= usage.spent_nanousd <= least + 50 * NANOUSD_PER_TOKEN

    check_rows(RELAYED, check)


def test_a_text_like_that_of_a_failure_is_passed_on(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Internal Server Error"))
    assert END in stream(app).data


def test_an_answer_above_its_limit_ends_with_an_error_event(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("one", "two", "three"))
    reply = stream(app, max_tokens=2)
    event = error_event("upstream_overran", "server_error", "The upstream did not keep to max_tokens")
    assert reply.data.startswith(sse(delta("one"), delta("two")) + event)
    assert b"three" not in reply.data


def test_a_call_past_its_deadline_ends_with_an_error_event(pipe: Pipe) -> None:
    pipe.hand(sse(delta("Hi")))
    reply = stream(app := app_of(DEADLINE_SECONDS="0.8"))
    event = error_event("upstream_timeout", "server_error", "The upstream took too long")
    assert reply.data.startswith(sse(delta("Hi")) + event)
    cost = spent_nanousd(app)
    assert cost is not None
    # A thousand tokens are assumed for each second between the last text and the end.
    assert (HELLO_TOKENS + 2 + 25) * NANOUSD_PER_TOKEN <= cost < HELLO_HOLD_NANOUSD


def test_a_call_that_is_cut_off_at_shutdown_ends_with_an_error_event(app: Flask, pipe: Pipe) -> None:
    pipe.hand(sse(delta("Hi")))
    pieces = pieces_of(app)
    next(pieces)
    services_of(app).admission.cut_all()
    assert next(pieces).startswith(error_event("shutting_down", "server_error", "The proxy is shutting down"))


def test_an_internal_error_in_a_stream_is_answered_without_details(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("canary")

    upstream.post(CHAT_URL, body=answer_of("Hi"))
    monkeypatch.setattr("ridges_proxy.upstream.stream_reader.RelayStreamReader._handle", fail)
    reply = stream(app)
    assert reply.status_code == 500
    assert orjson.loads(reply.data)["error"]["code"] == "internal_error"
    assert b"canary" not in reply.data


def test_the_run_may_be_named_by_a_header(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    body = {"messages": CHAT["messages"], "stream": True}
    assert ask(app, CHAT_PATH, body, **{"X-Run-Id": RUN}).status_code == 200
    assert spent_nanousd(app) == 4050
    assert ask(app, CHAT_PATH, body).status_code == 400


def test_a_stream_without_any_answer_costs_its_hold(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=ConnectionResetError())
    assert stream(app).status_code == 502
    assert spent_nanousd(app) == HELLO_HOLD_NANOUSD
