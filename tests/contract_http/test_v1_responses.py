"""`POST /v1/responses`: whole and streamed, on the same path of money as a chat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gevent
import orjson

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Run
from ridges_proxy.runtime.turn_queue import Caller
from tests.contract_http.openai_api import COST, WHOLE, ask, chat, envelope
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    DONE,
    HELLO,
    MODEL,
    RUN,
    answer_of,
    app_of,
    delta,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
    sse,
    untouched,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    import responses
    from flask import Flask
    from requests import PreparedRequest
    from werkzeug.test import TestResponse

PATH = "/v1/responses"
REQUEST = {"run_id": RUN, "input": "Hello"}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}


def respond(app: Flask, **fields: object) -> TestResponse:
    return ask(app, PATH, {**REQUEST, **fields})


def events_in(data: bytes) -> list[dict[str, Any]]:
    blocks = data.decode().split("\n\n")
    return [json.loads(block.partition("\ndata: ")[2]) for block in blocks if block.startswith("event: ")]


def types_in(data: bytes) -> list[str]:
    return [event["type"] for event in events_in(data)]


# --- money -------------------------------------------------------------------------------------------------


def test_the_chat_upstream_and_the_hold_are_those_of_the_same_chat(upstream: responses.RequestsMock) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"input": "Hello"}, {"messages": [HELLO]}),
        (
            {"input": [HELLO], "instructions": "Be brief", "max_output_tokens": 9},
            {"messages": [{"role": "system", "content": "Be brief"}, HELLO], "max_completion_tokens": 9},
        ),
        (
            {"tools": [{"type": "function", **function}], "tool_choice": "required"},
            {
                "messages": [HELLO],
                "tools": [{"type": "function", "function": function}],
                "tool_choice": "required",
            },
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
            {
                "messages": [HELLO],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}},
                },
            },
        ),
    ]

    def check(row: tuple[dict[str, Any], dict[str, Any]]) -> None:
        request, same_chat = row
        seen_calls: list[tuple[int, Any]] = []
        for send, fields in ((respond, request), (chat, same_chat)):
            app = app_of()

            def answer(request: PreparedRequest, app: Flask = app) -> tuple[int, dict[str, str], bytes]:
                usage = services_of(app).ledger.usage(RUN)
                assert usage is not None
                seen_calls.append((usage.held_nanousd, orjson.loads(request.body or b"")))
                return 200, {}, orjson.dumps(WHOLE)

            upstream.reset()
            upstream.add_callback("POST", CHAT_URL, answer)
            assert send(app, **fields).status_code == 200
            assert spent_nanousd(app) == 4050
        assert seen_calls[0] == seen_calls[1]

    check_rows(rows, check)


def test_a_response_is_charged_and_shows_the_cost_in_its_headers(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    reply = respond(app, model=MODEL, store=True, metadata={"a": "b"})
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.headers["X-Run-Cost-USD"] == "0.000004050"
    body: dict[str, Any] = reply.get_json()
    assert (body["object"], body["status"], body["model"], body["usage"]) == (
        "response",
        "completed",
        MODEL,
        USAGE,
    )
    assert (body["store"], body["metadata"], body["error"], body["incomplete_details"]) == (
        False,
        {"a": "b"},
        None,
        None,
    )
    (item,) = body["output"]
    assert item["content"] == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]
    assert services_of(app).calls.upstream.body_budget.used_bytes == 0


def test_a_refused_request_holds_nothing(app: Flask) -> None:
    reply = respond(app, previous_response_id="resp_1")
    message = (
        "previous_response_id: Not accepted here: responses are not stored here, so send the complete"
        " conversation as input; see /docs for the accepted fields"
    )
    assert seen(reply) == (
        400,
        envelope("invalid_request", "invalid_request_error", message, "previous_response_id"),
    )
    assert untouched(app)


def test_an_error_before_the_answer_has_its_own_status(upstream: responses.RequestsMock) -> None:
    def check(stream: bool) -> None:  # noqa: FBT001 - a row
        app = app_of()
        spend(app, CAP_NANOUSD)
        reply = respond(app, stream=stream)
        assert (reply.status_code, (reply.json or {})["error"]["code"]) == (402, BudgetExhaustedError.code)
        upstream.reset()
        upstream.post(CHAT_URL, status=429, json={"detail": "full"})
        busy = respond(app_of(), stream=stream)
        assert (busy.status_code, (busy.json or {})["error"]["code"]) == (429, "upstream_busy")
        assert busy.headers["Retry-After"] == "5"
        closed = app_of()
        services_of(closed).ledger.close(Run(RUN, CAP_NANOUSD))
        assert respond(closed, stream=stream).status_code == 403

    check_rows([False, True], check)


# --- streams -----------------------------------------------------------------------------------------------


def test_a_stream_ends_with_the_response_and_then_the_cost(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi", " there"))
    reply = respond(app, stream=True)
    assert (reply.status_code, reply.mimetype) == (200, "text/event-stream")
    assert reply.headers["X-Accel-Buffering"] == "no"
    assert reply.data.endswith(COST)
    assert DONE not in reply.data, "OpenAI's responses have no such event"
    *_, last = events_in(reply.data)
    assert (last["type"], last["response"]["usage"]) == ("response.completed", USAGE)
    assert last["response"]["output"][0]["content"][0]["text"] == "Hi there"
    assert sent(upstream)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert spent_nanousd(app) == 4050


def test_the_usage_is_shown_if_only_the_chunks_report_it(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    upstream.post(CHAT_URL, body=sse({**delta("Hi", finish_reason="stop"), "usage": usage}, DONE))
    assert events_in(respond(app, stream=True).data)[-1]["response"]["usage"] == USAGE


def test_an_answer_without_events_is_an_empty_response(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=sse(DONE))
    assert types_in(respond(app, stream=True).data) == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]


def test_an_answer_that_reaches_its_limit_is_incomplete(upstream: responses.RequestsMock) -> None:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}

    def check(finish: str) -> None:
        details = {"reason": reasons[finish]}
        upstream.reset()
        choice = {**WHOLE["choices"][0], "finish_reason": finish}  # type: ignore[index] # a list
        upstream.post(CHAT_URL, json={**WHOLE, "choices": [choice]})
        whole: dict[str, Any] = respond(app_of()).get_json()
        assert (whole["status"], whole["incomplete_details"]) == ("incomplete", details)
        assert whole["output"][0]["status"] == "incomplete"
        upstream.reset()
        upstream.post(CHAT_URL, body=sse(delta("Hi", finish_reason=finish), DONE))
        last = events_in(respond(app_of(), stream=True).data)[-1]
        assert (last["type"], last["response"]["incomplete_details"]) == ("response.incomplete", details)

    check_rows(reasons, check)


def test_a_failure_inside_the_stream_is_an_error_event_and_a_failed_response(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Hi")) + b'{"error": "It broke"}\n')
    reply = respond(app, stream=True)
    *_, error, failed = events_in(reply.data)
    assert error["error"] == {
        "message": "It broke",
        "type": "server_error",
        "param": None,
        "code": "upstream_broken",
    }
    assert failed["response"]["error"] == {"code": "upstream_broken", "message": "It broke"}
    assert reply.data.rstrip().rsplit(b"\n\n", 1)[-1].startswith(b": cost ")
    assert services_of(app).admission.in_flight == 0


def test_a_failure_after_a_heartbeat_begins_the_response_first(upstream: responses.RequestsMock) -> None:
    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        gevent.sleep(0.12)
        return 429, {}, b"{}"

    upstream.add_callback("POST", CHAT_URL, slow)
    reply = respond(app_of(HEARTBEAT_SECONDS="0.05"), stream=True)
    assert (reply.status_code, reply.data.startswith(HEARTBEAT)) == (200, True)
    assert types_in(reply.data) == ["response.created", "response.in_progress", "error", "response.failed"]


def test_a_caller_needs_the_key(app: Flask) -> None:
    reply = app.test_client().post(PATH, json=REQUEST)
    assert (reply.status_code, reply.get_json()["error"]["code"]) == (401, "invalid_api_key")
    assert untouched(app)


# --- large answers -----------------------------------------------------------------------------------------


def test_a_large_answer_is_read_in_the_turn_of_its_run(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Caller] = []
    do = services_of(app).turns.do

    def recording(caller: Caller, step: Callable[[], Any], *rest: Any) -> Any:  # noqa: ANN401 - passed on
        turns.append(caller)
        return do(caller, step, *rest)

    monkeypatch.setattr(services_of(app).turns, "do", recording)
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 200_000}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5_000, "total_tokens": 5_010}
    upstream.post(CHAT_URL, json={**WHOLE, "choices": [choice], "usage": usage})
    body: dict[str, Any] = respond(app).get_json()
    assert len(body["output"][0]["content"][0]["text"]) == 200_000
    assert turns == [Caller("address\n127.0.0.1", RUN)] * 2, "to count the answer, and to convert it"
