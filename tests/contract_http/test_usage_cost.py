"""`usage.cost`: on request, what the ledger settled for the call, in a whole answer and in a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import LedgerUnavailableError
from tests.contract_http.openai_api import CHAT_PATH, WHOLE, ask, chat, stream
from tests.contract_http.service import (
    CHAT_URL,
    DONE,
    RUN,
    answer_of,
    app_of,
    delta,
    services_of,
    spent_nanousd,
    sse,
    tokens,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest
    import responses
    from flask import Flask

HELLO_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CHOICE = {"message": {"role": "assistant", "content": "Hi"}}
ASKED: dict[str, Any] = {"usage": {"include": True}}
RESPONSE = {"run_id": RUN, "input": "Hello"}
HELLO = {"run_id": RUN, "messages": [{"role": "user", "content": "Hello"}]}


def stop(**choice: object) -> dict[str, object]:
    return {"id": "chat-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **choice}]}


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream that ended well, without `[DONE]` and comments."""
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line.startswith(b"data: ")]
    assert lines[-1] == DONE
    return [orjson.loads(line) for line in lines[:-1]]


def test_a_whole_answer_has_its_cost_and_is_otherwise_unchanged(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    body = orjson.dumps(WHOLE, option=orjson.OPT_INDENT_2)
    upstream.post(CHAT_URL, body=body)
    with_cost = body.replace(b'"usage": {', b'"usage": {"cost":4.05e-6,')
    assert chat(app, **ASKED).data == with_cost
    assert spent_nanousd(app) == 4050
    assert chat(app).data == body


WHOLES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("cached tokens", {"usage": HELLO_USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}}, {}),
    ("several choices", {"choices": [CHOICE] * 3}, {"n": 3}),
    ("no usage", {"usage": None}, {}),
    ("no usage, hidden tokens", {"usage": None}, {"include_reasoning": False}),
    ("fewer tokens than sent", {"choices": [{"message": {"content": "word " * 999}}]}, {}),
    ("more than the hold", {"usage": {"prompt_tokens": 9, "completion_tokens": 99_999}}, {"max_tokens": 5}),
    ("the upstream's own cost", {"usage": HELLO_USAGE | {"cost": 5.5}}, {}),
]  # fmt: skip


def test_the_cost_of_a_whole_answer_is_that_of_the_ledger(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
        _, answer, fields = row
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, json=WHOLE | answer)
        usage = (chat(app, **ASKED, **fields).json or {})["usage"]
        assert round(usage["cost"] * 1e9) == spent_nanousd(app) != 0
        assert usage["prompt_tokens"] > 0
        assert usage["completion_tokens"] > 0

    check_rows(WHOLES, check)


STREAMS: list[tuple[str, bytes, dict[str, Any], dict[str, Any] | None]] = [
    # What happens, the upstream's stream, the request's fields, and the usage without its cost.
    ("usage at the end", answer_of("Hi"), {}, HELLO_USAGE),
    ("twice", sse(delta("Hi"), tokens(1, 1), tokens(10, 5), DONE), {}, HELLO_USAGE),
    ("null before", sse(delta("Hi"), tokens(10, 5) | {"usage": None}, tokens(10, 5), DONE), {}, HELLO_USAGE),
    ("beside a choice", sse(delta("Hi"), stop() | {"usage": HELLO_USAGE}, DONE), {}, HELLO_USAGE),
    (
        "beside each of two choices",
        sse(*(stop(index=index) | {"usage": HELLO_USAGE} for index in (0, 1)), DONE),
        {"n": 2},
        {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    ),
    ("none", sse(delta("Hi"), stop(), DONE), {}, None),
    ("none, hidden tokens", sse(delta("Hi"), stop(), DONE), {"include_reasoning": False}, None),
    ("more than the hold", sse(delta("Hi"), tokens(10, 9_999_999), DONE), {}, None),
]


def test_a_stream_ends_with_an_event_that_has_the_usage_and_the_cost_of_the_ledger(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, bytes, dict[str, Any], dict[str, Any] | None]) -> None:
        _, body, fields, expected = row
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        events = events_of(stream(app, **ASKED, **fields).data)
        assert [each for each in events[:-1] if each.get("usage")] == []
        assert (events[-1]["id"], events[-1]["choices"]) == ("chat-1", [])
        usage = events[-1]["usage"]
        assert round(usage.pop("cost") * 1e9) == spent_nanousd(app) != 0
        assert usage == (expected or usage)
        assert usage["completion_tokens"] > 0

    check_rows(STREAMS, check)


def test_a_stream_with_usage_in_each_chunk_has_the_cost_only_at_the_end(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    first = delta("Hi") | {"usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    upstream.post(CHAT_URL, body=sse(first, tokens(10, 5), DONE))
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = events_of(stream(app, **ASKED, stream_options=options).data)
    assert events == [first, tokens(10, 5) | {"usage": {"cost": 4.05e-6, **HELLO_USAGE}}]


def test_the_event_with_the_cost_is_otherwise_unchanged(app: Flask, upstream: responses.RequestsMock) -> None:
    body = b'data: { "choices":[],\ndata:  "usage": {"prompt_tokens": 1.0e1,"completion_tokens":5}}\n\n'
    upstream.post(CHAT_URL, body=sse(delta("Hi")) + body + sse(DONE))
    with_cost = body.replace(b'"usage": {', b'"usage": {"cost":4.05e-6,')
    assert with_cost + sse(DONE) in stream(app, **ASKED).data


def test_a_stream_that_fails_has_no_cost(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Hi")))
    data = stream(app, **ASKED).data
    assert b"upstream_broken" in data
    assert b'"cost"' not in data


def test_the_cost_is_that_which_is_settled_later_if_the_ledger_is_away(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailableError

    upstream.post(CHAT_URL, json=WHOLE)
    with monkeypatch.context() as patch:
        patch.setattr(services_of(app).ledger, "settle", fail)
        assert (chat(app, **ASKED).json or {})["usage"]["cost"] == 4.05e-6
        assert spent_nanousd(app) == 0
    services_of(app).outbox.deliver()
    assert spent_nanousd(app) == 4050


def test_the_usage_of_a_response_has_the_cost_of_the_ledger_only_on_demand(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, bool, dict[str, Any], bool]) -> None:
        _, is_streamed, fields, shows_cost = row
        app = app_of()
        upstream.reset()
        own_cost = {"usage": HELLO_USAGE | {"cost": 5.5}}
        whole, events = orjson.dumps(WHOLE | own_cost), sse(delta("Hi"), tokens(10, 5) | own_cost, DONE)
        upstream.post(CHAT_URL, body=events if is_streamed else whole)
        data = ask(app, "/v1/responses", RESPONSE | fields | {"stream": is_streamed}).data
        last = data.rpartition(b"data: ")[2].partition(b"\n")[0]
        usage = (orjson.loads(last)["response"] if is_streamed else orjson.loads(data))["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (10, 5)
        spent = spent_nanousd(app) or 0
        assert usage.get("cost") == (spent / 1e9 if shows_cost else None)
        assert spent > 0

    rows = [
        (f"stream {is_streamed}", is_streamed, fields, shows_cost)
        for is_streamed in (False, True)
        for fields, shows_cost in ((ASKED, True), ({}, False))
    ]
    check_rows(rows, check)


def test_the_later_platform_has_the_cost_of_the_ledger(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    reply = ask(app, f"/api{CHAT_PATH}", HELLO | ASKED)
    assert (reply.json or {})["usage"]["cost"] * 1e9 == spent_nanousd(app) == 4050
