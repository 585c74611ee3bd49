"""`POST /api/embedding`, `GET /api/usage` and `GET /api/v1/usage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.web.openrouter import openrouter_error_body
from ridges_proxy.web.schemas.problems import RUN_MISSING
from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS, Failure
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.openai_api import embed as embed_openai
from tests.contract_http.platform_api import EMBEDDING, TEXT, USAGE, embed, get, infer, post, problem
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HELLO,
    MODEL,
    RUN,
    answer_of,
    app_of,
    envelope,
    hold_of,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
    untouched,
    usage,
)
from tests.contract_http.service import TEXT as AGENTS_TEXT
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

OTHER = "other-model"
KEY = "run-token-key-of-these-tests-0123456789"
TOTALS = "/api/v1/usage"
NO_CALLS = {
    "evaluation_run_id": RUN,
    "total_cost_usd": 0.0,
    "budget_remaining_usd": 2.0,
    "requests": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "models": [],
    "budgets": [],
}


def test_with_run_id_the_embedding_is_the_upstreams_json(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(EMBED_URL, body=b"[[0.10, 1]]\n")
    reply = post(app, EMBEDDING, {**AGENTS_TEXT, "model": "x"})
    assert (reply.status_code, reply.data, sent(upstream)) == (200, b"[[0.10, 1]]\n", {"inputs": "Hello"})


def test_with_evaluation_run_id_the_embedding_is_one_vector(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(EMBED_URL, body=b"[[0.10, 1]]")
    assert seen(embed(app, model="x")) == (200, {"embedding": [0.1, 1]})
    assert sent(upstream) == {"inputs": "Hello"}


def test_a_failure_of_the_upstream_has_the_status_and_the_words_of_v1(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, Failure]) -> None:
        _, failure = row
        upstream.reset()
        failure.arrange(upstream, EMBED_URL)
        app, other = app_of(), app_of()
        expected = embed_openai(other).json or {}
        reply = embed(app)
        assert (reply.status_code, (reply.json or {})["detail"]) == (
            embed_openai(other).status_code,
            expected["error"]["message"],
        )
        assert services_of(app).admission.in_flight == 0

    too_long = Failure(
        "upstream_rejected", b'{"error":"must have less than 512 tokens","error_type":"Validation"}'
    )
    no_vector = {"none": Failure("upstream_broken", b"[]"), "null": Failure("upstream_broken", b"null")}
    failures = {**REFUSALS, **EXCEPTIONS, **NOT_JSON, **no_vector, "too_long": too_long}
    check_rows(failures.items(), check)


def test_a_run_without_money_is_a_429_about_the_cost_limit(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    spend(app, CAP_NANOUSD)
    for body in (AGENTS_TEXT, TEXT):
        reply = post(app, EMBEDDING, body)
        assert (reply.status_code, (reply.json or {})["code"]) == (429, "budget_exhausted")
        assert "cost limit" in reply.text
        assert "Retry-After" not in reply.headers
    assert not upstream.calls


def test_an_input_that_is_no_text_is_a_422(app: Flask) -> None:
    expected = problem("Input should be a valid string", "input", kind="string_type")
    for value in (None, ["Hello"], 1):
        assert seen(embed(app, input=value)) == (422, envelope([expected], "invalid_request"))
    assert untouched(app)


def test_the_usage_has_the_form_of_the_name_of_the_run(app: Flask) -> None:
    spend(app, 500_000_000)
    hold_of(app, 250_000_000)
    later = {"used_cost_usd": 0.5, "remaining_cost_usd": 1.25, "max_cost_usd": 2.0, "budgets": []}
    assert seen(get(app, USAGE, {"evaluation_run_id": RUN})) == (200, later)
    assert seen(get(app, USAGE, {"run_id": RUN})) == seen(usage(app))
    assert seen(get(app, USAGE, {}, **{"X-Run-Id": RUN})) == seen(usage(app))
    missing = [{"loc": ["query", "run_id"], "msg": "Field required", "type": "missing"}]
    assert seen(get(app, USAGE, {})) == (422, envelope(missing, "invalid_request"))
    reply = get(app, USAGE, {"evaluation_run_id": ""})
    assert (reply.status_code, (reply.json or {})["detail"][0]["type"]) == (422, "string_too_short")


def test_two_names_of_the_run_must_name_the_same_run(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[[1]]")

    def ask(path: str, fields: dict[str, Any], run_id: object) -> TestResponse:
        named = {**fields, "evaluation_run_id": RUN, "run_id": run_id}
        return get(app, path, named) if path == USAGE else post(app, path, named)

    def check(row: tuple[str, dict[str, Any]]) -> None:
        path, fields = row
        assert ask(path, fields, RUN).status_code == 200
        for other in ("another", "", *([] if path == USAGE else [1, [], {}])):
            reply = ask(path, fields, other)
            (found,) = (reply.json or {})["detail"]
            assert (reply.status_code, found["loc"][1:]) == (422, ["run_id"])
            assert "evaluation_run_id" in found["msg"]

    check_rows(
        [("/api/inference", {"messages": [HELLO]}), (EMBEDDING, {"input": "Hello"}), (USAGE, {})], check
    )


def test_the_models_are_those_of_v1(app: Flask) -> None:
    """An unknown one is an error in the form of OpenRouter."""
    for path in ("models", f"models/{MODEL}", "models/no-such-model"):
        (status, body), api_reply = (seen(get(app, f"{prefix}/{path}", {})) for prefix in ("/v1", "/api/v1"))
        expected = body if status == 200 else openrouter_error_body(status, body)
        assert api_reply == (status, expected)
        assert status == (404 if "no-such" in path else 200)
    assert app.test_client().get("/api/v1/models").status_code == 401


def test_the_totals_of_a_run_have_its_tokens_and_models(upstream: responses.RequestsMock) -> None:
    app = app_of(MODEL_PRICES=f'{{"{MODEL}": 0.27, "{OTHER}": 1}}')
    assert seen(get(app, TOTALS, {}, **{"X-Run-Id": RUN})) == (200, NO_CALLS)
    assert RUN_MISSING["required"] in get(app, TOTALS, {}).text
    assert untouched(app)
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app)
    infer(app)
    infer(app, evaluation_run_id="another", model=OTHER)
    infer(app, model="no-such-model")
    upstream.replace("POST", CHAT_URL, json=WHOLE)
    body = {"model": OTHER, "messages": [HELLO], "run_id": RUN}
    assert post(app, "/api/v1/chat/completions", body).status_code == 200
    cost_nanousd = 2 * 4_050 + 15_000
    expected = {
        "evaluation_run_id": RUN,
        "total_cost_usd": cost_nanousd / 1e9,
        "budget_remaining_usd": (CAP_NANOUSD - cost_nanousd) / 1e9,
        "requests": 3,
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "models": [MODEL, OTHER],
        "budgets": [],
    }
    assert seen(get(app, TOTALS, {}, **{"X-Run-Id": RUN})) == (200, expected)
    assert seen(get(app, TOTALS, {"run_id": RUN})) == (200, expected)
    restarted = app_of(services_of(app).ledger)
    assert seen(get(restarted, TOTALS, {"run_id": RUN})) == (200, expected)
    assert spent_nanousd(app) == cost_nanousd


def test_a_run_token_names_the_run_and_its_budget_on_all_routes(upstream: responses.RequestsMock) -> None:
    app = app_of(RUN_TOKEN_KEY=KEY)
    text, _ = services_of(app).run_tokens.issue(RUN, 60, budget_usd="0.5")
    token = {"Authorization": f"Bearer {text}"}
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[[1]]")

    def check(row: tuple[str, dict[str, Any]]) -> None:
        path, fields = row
        assert post(app, path, fields, **token).status_code == 200
        assert post(app, path, {**fields, "evaluation_run_id": RUN}, **token).status_code == 200
        for name in ("run_id", "evaluation_run_id"):
            reply = post(app, path, {**fields, name: "another"}, **token)
            assert (reply.status_code, (reply.json or {})["code"]) == (403, "run_not_allowed")
            reply = app.test_client().post(path, json={**fields, name: RUN})
            assert (reply.status_code, (reply.json or {})["code"]) == (401, "invalid_api_key")

    check_rows([("/api/inference", {"messages": [HELLO]}), (EMBEDDING, {"input": "Hello"})], check)
    assert get(app, TOTALS, {}, **token).json["budget_remaining_usd"] < 0.5  # type: ignore[index]
    assert get(app, USAGE, {}, **token).json["max_cost_usd"] == 0.5  # type: ignore[index]
    for path in (TOTALS, USAGE):
        assert get(app, path, {"run_id": "another"}, **token).status_code == 403
        assert app.test_client().get(path, query_string={"run_id": RUN}).status_code == 401
