"""`POST /v1/chat/completions` without a stream, `/v1/estimate`, `/v1/models`, and common parts of `/v1`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

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
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask
    from requests import PreparedRequest
    from werkzeug.test import TestResponse

    Send = Callable[..., TestResponse]


def record_holds(app: Flask, upstream: responses.RequestsMock) -> list[int]:
    """The amounts that the run holds, in nano-USD, each taken while a call is upstream."""
    held: list[int] = []

    def answer(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        usage = services_of(app).ledger.usage(RUN)
        assert usage is not None
        held.append(usage.held_nanousd)
        return 200, {}, orjson.dumps(WHOLE)

    upstream.add_callback("POST", CHAT_URL, answer)
    return held


# --- complete answers --------------------------------------------------------------------------------------


def test_a_complete_answer_is_passed_on_byte_for_byte(app: Flask, upstream: responses.RequestsMock) -> None:
    body = b' { "x": 1.0, "choices":[{"message":{"content":"\xc3\xa9\xe2\x80\xa8"}}] }\n'
    upstream.post(CHAT_URL, body=body)
    reply = chat(app)
    assert (reply.status_code, reply.data, reply.content_type) == (200, body, "application/json")


def test_a_complete_answer_has_the_cost_in_its_headers(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    reply = chat(app)
    assert reply.headers["X-Run-Cost-USD"] == "0.000004050"
    assert reply.headers["X-Run-Remaining-USD"] == "1.999995950"
    assert spent_nanousd(app) == 4050


def test_the_request_goes_upstream_with_a_limit_and_without_the_proxys_fields(
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


LIMITS: list[tuple[dict[str, Any], int]] = [
    ({}, 8192),
    ({"max_tokens": 5}, 5),
    ({"max_completion_tokens": 7}, 7),
    ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
]


def test_the_limit_comes_from_the_request_or_the_settings(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)

    def check(row: tuple[dict[str, Any], int]) -> None:
        fields, max_tokens = row
        chat(app_of(), **fields)
        body = sent(upstream)
        assert body["max_tokens"] == max_tokens
        assert "max_completion_tokens" not in body

    check_rows(LIMITS, check)


def test_a_small_budget_reduces_the_limit_to_what_it_pays_for(upstream: responses.RequestsMock) -> None:
    def check(send: Send) -> None:
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, body=answer_of("Hi") if send is stream else orjson.dumps(WHOLE))
        spend(app, CAP_NANOUSD - (HELLO_TOKENS + 100) * NANOUSD_PER_TOKEN)
        assert send(app).status_code == 200
        assert sent(upstream)["max_tokens"] == 100

    check_rows([chat, stream], check)


def test_the_number_of_choices_multiplies_the_hold(app: Flask, upstream: responses.RequestsMock) -> None:
    held = record_holds(app, upstream)
    chat(app, n=3, max_tokens=10)
    assert sent(upstream)["n"] == 3
    assert held == [3 * (HELLO_TOKENS + 10) * NANOUSD_PER_TOKEN]


# --- the run of a call -------------------------------------------------------------------------------------


def test_the_run_is_named_by_the_body_or_the_header(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    body = {"messages": [HELLO]}
    assert ask(app, CHAT_PATH, body, **{"X-Run-Id": "of-the-header"}).status_code == 200
    assert ask(app, CHAT_PATH, {**body, "run_id": None}, **{"X-Run-Id": "of-the-header"}).status_code == 200
    assert ask(app, CHAT_PATH, {**body, "run_id": "of-the-body"}).status_code == 200
    ledger = services_of(app).ledger
    calls = {name: ledger.usage(name) for name in ("of-the-header", "of-the-body")}
    assert {name: usage and usage.calls for name, usage in calls.items()} == {
        "of-the-header": 2,
        "of-the-body": 1,
    }
    assert b"run" not in upstream.calls[0].request.body  # type: ignore[operator] # bytes


def test_a_call_without_a_valid_run_id_is_refused(app: Flask) -> None:
    def check(run_id: str | None) -> None:
        headers = {} if run_id is None or "\x01" in run_id else {"X-Run-Id": run_id}
        body = {"messages": [HELLO], **({"run_id": run_id} if not headers else {})}
        reply = ask(app, CHAT_PATH, body, **headers)
        assert reply.status_code == 400
        assert (reply.json or {})["error"]["param"] == ("X-Run-Id" if headers else "run_id")

    check_rows([None, "", "x" * 257, "a\x01b"], check)


# --- estimates ---------------------------------------------------------------------------------------------


def test_an_estimate_returns_the_hold_of_a_call_without_making_it(app: Flask) -> None:
    assert seen(estimate(app)) == (
        200,
        {
            "model": MODEL,
            "admitted": True,
            "code": None,
            "message": None,
            "budget": None,
            "scope": None,
            "window": None,
            "resets_at": None,
            "hold_cost_usd": HELLO_HOLD_NANOUSD / 1e9,
            "most_cost_usd": HELLO_HOLD_NANOUSD / 1e9,
            "least_cost_usd": (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN / 1e9,
            "max_tokens": 8192,
            "waiting_calls": 0,
            "run_id": RUN,
            "max_cost_usd": 2.0,
            "used_cost_usd": 0.0,
            "held_cost_usd": 0.0,
            "remaining_cost_usd": 2.0,
            "inference_cost_usd": 0.0,
            "embedding_cost_usd": 0.0,
            "calls": 0,
            "budgets": [],
        },
    )
    assert untouched(app)


def test_an_estimate_is_the_same_as_the_hold_and_the_limit_of_the_call(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[dict[str, Any], int | None]) -> None:
        fields, remaining_tokens = row
        app = app_of()
        upstream.reset()
        if remaining_tokens:
            spend(app, CAP_NANOUSD - remaining_tokens * NANOUSD_PER_TOKEN)
        expected = estimate(app, **fields).json or {}
        held = record_holds(app, upstream)
        assert chat(app, **fields).status_code == 200
        assert [amount / 1e9 for amount in held] == [expected["hold_cost_usd"]]
        assert sent(upstream)["max_tokens"] == expected["max_tokens"]

    requests: list[dict[str, Any]] = [
        {},
        {"n": 4},
        {"max_tokens": 3},
        {"tools": [{"a": 1e15}]},
        {"messages": [HELLO, HELLO]},
    ]
    check_rows([(fields, remaining) for fields in requests for remaining in (None, 5_000)], check)


def test_an_estimate_has_the_error_that_the_call_would_get(app: Flask) -> None:
    hold_of(app, CAP_NANOUSD)
    answer = estimate(app).json or {}
    assert (answer["admitted"], answer["code"], answer["hold_cost_usd"]) == (False, "run_busy", 0.0)
    services_of(app).admission.close()
    assert (estimate(app).json or {})["code"] == chat_code(app) == "shutting_down"


def test_an_estimate_for_a_closed_run_is_refused(app: Flask) -> None:
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))
    reply = estimate(app)
    assert (reply.status_code, (reply.json or {})["error"]["code"]) == (403, "run_closed")
    assert chat_code(app) == "run_closed"


def chat_code(app: Flask) -> str:
    code: str = (chat(app).json or {})["error"]["code"]
    return code


def test_an_invalid_estimate_gets_the_same_error_as_the_call(app: Flask) -> None:
    for fields in ({"n": 0}, {"best_of": 2}, {"model": "gpt-4"}):
        refusals = [seen(send(app, **fields)) for send in (chat, estimate)]
        assert refusals[0] == refusals[1]
        assert refusals[0][0] in {400, 404}


# --- models ------------------------------------------------------------------------------------------------


def test_the_models_with_a_price_are_listed(app: Flask) -> None:
    status, listed = seen(app.test_client().get("/v1/models", headers=HEADERS))
    assert (status, listed["object"]) == (200, "list")
    assert {model["id"] for model in listed["data"]} == {MODEL, "BAAI/bge-large-en-v1.5"}
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed["data"])


def test_a_model_has_its_prices_with_their_unit_and_its_context_length_if_that_is_known() -> None:
    prices = {
        "long": {"input": 0.3, "output": 1.1, "cached_input": 0.1, "context_length": 163_840},
        MODEL: 0.27,
    }
    client = app_of(MODEL_PRICES=orjson.dumps(prices).decode()).test_client()
    of_model = {"object": "model", "created": 0, "owned_by": "chutes"}
    per_token = of_model | {"pricing_unit": "USD per million tokens"}
    long_pricing = {"prompt": 0.3, "completion": 1.1, "input_cache_read": 0.1}
    assert seen(client.get("/v1/models", headers=HEADERS))[1]["data"] == [
        per_token | {"id": "long", "pricing": long_pricing, "context_length": 163_840},
        per_token | {"id": MODEL, "pricing": {"prompt": 0.27, "completion": 0.27}},
        of_model
        | {
            "id": "BAAI/bge-large-en-v1.5",
            "pricing": {"second": 0.0001},
            "pricing_unit": "USD per second",
        },
    ]


def test_a_context_length_is_that_of_the_price_entry_or_else_of_the_upstream(
    upstream: responses.RequestsMock,
) -> None:
    prices = {
        MODEL: {"input": 1, "output": 1, "context_length": 5},
        "short": {"input": 1, "output": 1, "upstream": "long/name"},
        "unlisted": 1,
    }
    listed = [{"id": name, "context_length": 131_072} for name in (MODEL, "long/name", "without/price")]
    upstream.get("http://chutes.test/v1/models", json={"data": listed})
    app = app_of(MODEL_PRICES=orjson.dumps(prices).decode())
    reading = services_of(app).context_lengths.refresh()
    assert reading is not None
    reading.get()
    models = seen(app.test_client().get("/v1/models", headers=HEADERS))[1]["data"]
    lengths = {model["id"]: model.get("context_length") for model in models}
    assert lengths == {MODEL: 5, "short": 131_072, "unlisted": None, "BAAI/bge-large-en-v1.5": None}


def test_one_model_is_shown_by_its_name_which_may_have_slashes(app: Flask) -> None:
    client = app.test_client()
    status, shown = seen(client.get(f"/v1/models/{MODEL}", headers=HEADERS))
    assert (status, shown["id"]) == (200, MODEL)
    message = "Model not supported: GET /v1/models lists those that are. Supported here, the closest first: "
    expected = envelope("model_not_found", "not_found_error", f"{message}{MODEL}, BAAI/bge-large-en-v1.5")
    for name in ("deep", "seek/v3", "%20", "\U0001f600", "/deep", "de%0Aep"):
        assert seen(client.get(f"/v1/models/{name}", headers=HEADERS)) == (404, expected)


# --- browsers ----------------------------------------------------------------------------------------------


def test_a_browsers_preflight_is_answered_without_a_key(app: Flask) -> None:
    def check(path: str) -> None:
        asked = {
            "Origin": "https://app.example.test",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        reply = app.test_client().options(path, headers=asked)
        assert reply.status_code == 200
        assert reply.headers["Access-Control-Allow-Origin"] in {"*", asked["Origin"]}
        assert "POST" in reply.headers["Access-Control-Allow-Methods"]

    check_rows([CHAT_PATH, "/v1/responses", "/v1/embeddings", "/v1/estimate"], check)


def test_streams_and_errors_can_be_read_by_a_browser(upstream: responses.RequestsMock) -> None:
    app, origin = app_of(CORS_ORIGINS="https://app.example.test"), {"Origin": "https://app.example.test"}
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    streamed = ask(app, CHAT_PATH, {**CHAT, "stream": True}, **origin)
    refused = ask(app, CHAT_PATH, {}, **origin)
    foreign = ask(app, CHAT_PATH, {}, Origin="https://elsewhere.test")
    assert (streamed.status_code, refused.status_code) == (200, 400)
    for reply in (streamed, refused):
        assert reply.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "Access-Control-Allow-Origin" not in foreign.headers
