"""`POST /v1/chat/completions` in one piece, `/v1/estimate`, `/v1/models`, and what all of `/v1` shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ridges_proxy.ledger import Run
from tests.contract_http.openai_api import (
    CHAT_PATH,
    HELLO_HOLD_NANOUSD,
    WHOLE,
    ask,
    chat,
    envelope,
    estimate,
    stream,
)
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT,
    CHAT_URL,
    HEADERS,
    HELLO,
    HELLO_TOKENS,
    MODEL,
    NANOUSD_PER_TOKEN,
    RUN,
    answer_of,
    app_of,
    hold_of,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
    untouched,
)

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

# --- whole -------------------------------------------------------------------------------------------------


def test_a_whole_answer_is_the_upstreams_byte_for_byte(app: Flask, upstream: responses.RequestsMock) -> None:
    body = b' { "x": 1.0, "choices":[{"message":{"content":"\xc3\xa9\xe2\x80\xa8"}}] }\n'
    upstream.post(CHAT_URL, body=body)
    reply = chat(app)
    assert (reply.status_code, reply.data, reply.content_type) == (200, body, "application/json")


def test_a_whole_answer_has_its_cost_in_its_headers(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    reply = chat(app)
    assert reply.headers["X-Run-Cost-USD"] == "0.000004050"
    assert reply.headers["X-Run-Remaining-USD"] == "1.999995950"
    assert spent_nanousd(app) == 4050


def test_what_was_asked_goes_upstream_with_a_limit_and_nothing_of_ours(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    fields = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "json_object"},
        "seed": 7,
        "stop": ["END"],
        "logprobs": True,
        "top_k": 40,
        "min_p": 0.1,
        "chat_template_kwargs": {"thinking": True},
    }
    image = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "é"}, image]}]
    chat(app, messages=messages, temperature=None, user=None, stream=False, **fields)
    assert sent(upstream) == {
        "model": MODEL,
        "messages": messages,
        "stream": False,
        "max_tokens": 8192,
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, 8192),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
    ],
)
def test_the_limit_is_the_callers_or_the_settings(
    app: Flask, upstream: responses.RequestsMock, fields: dict[str, Any], max_tokens: int
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    chat(app, **fields)
    body = sent(upstream)
    assert body["max_tokens"] == max_tokens
    assert "max_completion_tokens" not in body


@pytest.mark.parametrize("asked", [chat, stream])
def test_a_tight_budget_cuts_the_limit_to_what_it_pays_for(
    app: Flask,
    upstream: responses.RequestsMock,
    asked: Any,  # noqa: ANN401 - either call
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi") if asked is stream else orjson.dumps(WHOLE))
    spend(app, CAP_NANOUSD - (HELLO_TOKENS + 100) * NANOUSD_PER_TOKEN)
    assert asked(app).status_code == 200
    assert sent(upstream)["max_tokens"] == 100


def test_choices_multiply_what_is_held(app: Flask, upstream: responses.RequestsMock) -> None:
    held: list[int] = []

    def look(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        books = services_of(app).ledger.usage(RUN)
        assert books is not None
        held.append(books.held_nanousd)
        return 200, {}, orjson.dumps(WHOLE)

    upstream.add_callback("POST", CHAT_URL, look)
    chat(app, n=3, max_tokens=10)
    assert sent(upstream)["n"] == 3
    assert held == [3 * (HELLO_TOKENS + 10) * NANOUSD_PER_TOKEN]


# --- who is charged ----------------------------------------------------------------------------------------


def test_the_run_is_named_by_the_body_or_else_by_the_header(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    body = {"messages": [HELLO]}
    assert ask(app, CHAT_PATH, body, **{"X-Run-Id": "of-the-header"}).status_code == 200
    assert ask(app, CHAT_PATH, {**body, "run_id": None}, **{"X-Run-Id": "of-the-header"}).status_code == 200
    assert ask(app, CHAT_PATH, {**body, "run_id": "of-the-body"}).status_code == 200
    ledger = services_of(app).ledger
    calls = {name: ledger.usage(name) for name in ("of-the-header", "of-the-body")}
    assert {name: books and books.calls for name, books in calls.items()} == {
        "of-the-header": 2,
        "of-the-body": 1,
    }
    assert b"run" not in upstream.calls[0].request.body  # type: ignore[operator] # bytes


@pytest.mark.parametrize("run_id", [None, "", "x" * 257, "a\x01b"])
def test_without_a_name_that_can_be_one_the_call_is_refused(app: Flask, run_id: str | None) -> None:
    headers = {} if run_id is None or "\x01" in run_id else {"X-Run-Id": run_id}
    body = {"messages": [HELLO], **({"run_id": run_id} if not headers else {})}
    reply = ask(app, CHAT_PATH, body, **headers)
    assert reply.status_code == 400
    assert (reply.json or {})["error"]["param"] == ("X-Run-Id" if headers else "run_id")


# --- estimates ---------------------------------------------------------------------------------------------


def test_an_estimate_tells_what_a_call_would_hold_and_makes_none(app: Flask) -> None:
    assert seen(estimate(app)) == (
        200,
        {
            "model": MODEL,
            "admitted": True,
            "code": None,
            "message": None,
            "hold_cost_usd": HELLO_HOLD_NANOUSD / 1e9,
            "most_cost_usd": HELLO_HOLD_NANOUSD / 1e9,
            "least_cost_usd": (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN / 1e9,
            "max_tokens": 8192,
            "run_id": RUN,
            "max_cost_usd": 2.0,
            "used_cost_usd": 0.0,
            "held_cost_usd": 0.0,
            "remaining_cost_usd": 2.0,
            "inference_cost_usd": 0.0,
            "embedding_cost_usd": 0.0,
            "calls": 0,
        },
    )
    assert untouched(app)


@pytest.mark.parametrize(
    "fields", [{}, {"n": 4}, {"max_tokens": 3}, {"tools": [{"a": 1e15}]}, {"messages": [HELLO, HELLO]}]
)
@pytest.mark.parametrize("left_tokens", [None, 5_000])
def test_an_estimate_is_what_the_call_then_holds_and_asks_for(
    app: Flask, upstream: responses.RequestsMock, fields: dict[str, Any], left_tokens: int | None
) -> None:
    if left_tokens:
        spend(app, CAP_NANOUSD - left_tokens * NANOUSD_PER_TOKEN)
    told = estimate(app, **fields).json or {}
    held: list[int] = []

    def look(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        books = services_of(app).ledger.usage(RUN)
        assert books is not None
        held.append(books.held_nanousd)
        return 200, {}, orjson.dumps(WHOLE)

    upstream.add_callback("POST", CHAT_URL, look)
    assert chat(app, **fields).status_code == 200
    assert [amount / 1e9 for amount in held] == [told["hold_cost_usd"]]
    assert sent(upstream)["max_tokens"] == told["max_tokens"]


def test_an_estimate_tells_the_refusal_that_the_call_would_meet(app: Flask) -> None:
    hold_of(app, CAP_NANOUSD)
    told = estimate(app).json or {}
    assert (told["admitted"], told["code"], told["hold_cost_usd"]) == (False, "budget_held", 0.0)
    services_of(app).admission.drain()
    assert (estimate(app).json or {})["code"] == chat_code(app) == "overloaded"


def test_nothing_is_estimated_for_a_closed_run(app: Flask) -> None:
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))
    reply = estimate(app)
    assert (reply.status_code, (reply.json or {})["error"]["code"]) == (403, "run_closed")
    assert chat_code(app) == "run_closed"


def chat_code(app: Flask) -> str:
    code: str = (chat(app).json or {})["error"]["code"]
    return code


def test_an_estimate_of_what_is_refused_is_refused_in_the_same_words(app: Flask) -> None:
    for fields in ({"n": 0}, {"best_of": 2}, {"model": "gpt-4"}):
        refusals = [seen(asked(app, **fields)) for asked in (chat, estimate)]
        assert refusals[0] == refusals[1]
        assert refusals[0][0] in {400, 404}


# --- models ------------------------------------------------------------------------------------------------


def test_the_models_are_those_with_a_price(app: Flask) -> None:
    status, listed = seen(app.test_client().get("/v1/models", headers=HEADERS))
    assert (status, listed["object"]) == (200, "list")
    assert {model["id"] for model in listed["data"]} == {MODEL, "BAAI/bge-large-en-v1.5"}
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed["data"])


def test_one_model_is_shown_by_its_name_slashes_and_all(app: Flask) -> None:
    client = app.test_client()
    status, shown = seen(client.get(f"/v1/models/{MODEL}", headers=HEADERS))
    assert (status, shown["id"]) == (200, MODEL)
    expected = (404, envelope("model_not_found", "not_found_error", "Model not supported"))
    for name in ("gpt-4", "a/b/c", "%20", "\U0001f600"):
        assert seen(client.get(f"/v1/models/{name}", headers=HEADERS)) == expected


# --- browsers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/embeddings", "/v1/estimate"])
def test_a_browsers_preflight_is_answered_without_a_key(app: Flask, path: str) -> None:
    asked = {
        "Origin": "https://app.example.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    reply = app.test_client().options(path, headers=asked)
    assert reply.status_code == 200
    assert reply.headers["Access-Control-Allow-Origin"] in {"*", asked["Origin"]}
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]


def test_answers_streams_and_errors_can_be_read_by_a_browser(upstream: responses.RequestsMock) -> None:
    app, origin = app_of(CORS_ORIGINS="https://app.example.test"), {"Origin": "https://app.example.test"}
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    streamed = ask(app, CHAT_PATH, {**CHAT, "stream": True}, **origin)
    refused = ask(app, CHAT_PATH, {}, **origin)
    foreign = ask(app, CHAT_PATH, {}, Origin="https://elsewhere.test")
    assert (streamed.status_code, refused.status_code) == (200, 400)
    for reply in (streamed, refused):
        assert reply.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "Access-Control-Allow-Origin" not in foreign.headers
