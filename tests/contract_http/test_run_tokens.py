"""The run of a request, by its body, header, query or run token, on `/agents` and on `/v1`."""

from __future__ import annotations

import json
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.ledger import Run
from ridges_proxy.web.run_context import NO_RUN_ID, OTHER_RUN
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HELLO,
    RUN,
    answer_of,
    app_of,
    services_of,
    spend,
    sse,
)
from tests.support.app import PROXY_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

KEY = "the-secret-of-run-tokens-in-tests"
MODEL = "deepseek-ai/DeepSeek-V3-0324"
EMBEDDING_MODEL = "BAAI/bge-large-en-v1.5"
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'

SPENDING: dict[str, dict[str, Any]] = {
    "/agents/inference": {"messages": [HELLO]},
    "/agents/embedding": {"input": "Hello"},
    "/v1/chat/completions": {"messages": [HELLO]},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/estimate": {"messages": [HELLO]},
}


@pytest.fixture
def app(upstream: responses.RequestsMock) -> Flask:
    upstream.post(CHAT_URL, body=WHOLE)
    upstream.post(EMBED_URL, body=b"[[0.5]]")
    return token_app()


def token_app() -> Flask:
    return app_of(RUN_TOKEN_KEY=KEY)


def token(app: Flask, run_id: str = RUN, ttl_seconds: int = 600, **allowed: Any) -> str:  # noqa: ANN401 - as `issue` takes them
    return services_of(app).run_tokens.issue(run_id, ttl_seconds, **allowed)[0]


def post(
    app: Flask, path: str, key: str, headers: dict[str, str] | None = None, **body: object
) -> TestResponse:
    given = {"Authorization": f"Bearer {key}", **(headers or {})}
    return app.test_client().post(path, json={**SPENDING[path], **body}, headers=given)


def get(app: Flask, path: str, key: str, headers: dict[str, str] | None = None) -> TestResponse:
    return app.test_client().get(path, headers={"Authorization": f"Bearer {key}", **(headers or {})})


def code_of(reply: TestResponse) -> tuple[int, str]:
    found = reply.get_json()
    return reply.status_code, found["error"]["code"] if "error" in found else found["code"]


def param_of(reply: TestResponse) -> str:
    """The invalid field, in the error body of either API."""
    found = reply.get_json()
    return str(found["error"]["param"]) if "error" in found else ".".join(found["detail"][0]["loc"][1:])


# --- the run of a request


def test_the_shared_key_names_the_run_in_the_body_or_in_the_header(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    upstream.post(EMBED_URL, body=b"[[0.5]]")

    def check(path: str) -> None:
        app = token_app()
        upstream.replace("POST", CHAT_URL, body=answer_of("Hi") if path.startswith("/agents") else WHOLE)
        for headers, body in (
            ({}, {"run_id": RUN}),
            ({"X-Run-Id": RUN}, {}),
            ({"X-Run-Id": RUN}, {"run_id": None}),
            ({"X-Run-Id": RUN}, {"run_id": RUN}),
        ):
            assert post(app, path, PROXY_KEY, headers, **body).status_code == 200
        run = services_of(app).ledger.usage(RUN)
        assert (run.calls if run else 0) == (0 if path == "/v1/estimate" else 4)

    check_rows(SPENDING, check)


def test_a_header_with_an_invalid_run_id_or_another_run_is_refused_by_its_name(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        path, header = row
        reply = post(app, path, PROXY_KEY, {"X-Run-Id": header.encode().decode("latin-1")}, run_id=RUN)
        assert (reply.status_code, param_of(reply)) == (400 if path.startswith("/v1") else 422, "X-Run-Id")
        assert (OTHER_RUN if header == "another" else NO_RUN_ID) in reply.text
        assert services_of(app).ledger.usage(RUN) is None

    check_rows(product(SPENDING, ["", "x" * 257, "tab\tbed", "läuft", "a\u200bb", "another"]), check)


def test_a_request_without_a_run_id_has_a_missing_field(app: Flask) -> None:
    def check(path: str) -> None:
        reply = post(app, path, PROXY_KEY)
        assert (reply.status_code, param_of(reply)) == (400 if path.startswith("/v1") else 422, "run_id")

    check_rows(SPENDING, check)


def test_a_token_is_for_its_run_only(app: Flask) -> None:
    def check(row: tuple[str, object]) -> None:
        path, other = row
        assert code_of(post(app, path, token(app), run_id=other)) == (403, "run_not_allowed")
        assert services_of(app).ledger.usage(RUN) is None

    others: list[object] = [" " + RUN, RUN.upper(), f"{RUN}\u0301", "x", 5, True, ["run"], {"a": 1}, ""]
    check_rows(product(SPENDING, others), check)


def test_a_body_that_is_no_object_is_an_invalid_request_with_a_token_too(app: Flask) -> None:
    headers = {"Authorization": f"Bearer {token(app)}"}
    bodies: list[object] = [[], "x", 1, None]
    for body in bodies:
        reply = app.test_client().post("/v1/chat/completions", json=body, headers=headers)
        assert code_of(reply) == (400, "invalid_request")


# --- the limits of a token


def test_the_usage_of_a_run_shows_the_budget_of_the_token() -> None:
    def check(spent: int | None) -> None:
        app = token_app()
        if spent is not None:
            spend(app, spent)
        for budget, nanousd in (("0.25", 250_000_000), ("7", 7_000_000_000), (None, CAP_NANOUSD)):
            usage = get(app, "/agents/usage", token(app, budget_usd=budget)).get_json()
            assert (usage["run_id"], usage["max_cost_usd"]) == (RUN, nanousd / 1e9)
            assert usage["remaining_cost_usd"] == (nanousd - (spent or 0)) / 1e9

    check_rows([None, 1_000], check)


def test_the_ledger_remembers_the_run_for_the_lifetime_of_the_token(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    reserve = services_of(app).ledger.reserve

    def record(run: Run, *rest: Any) -> Any:  # noqa: ANN401 - passed on
        runs.append(run)
        return reserve(run, *rest)

    monkeypatch.setattr(services_of(app).ledger, "reserve", record)
    post(app, "/v1/chat/completions", token(app, ttl_seconds=5000, budget_usd="3"))
    post(app, "/v1/chat/completions", PROXY_KEY, run_id=RUN)
    by_token, by_key = runs
    assert (by_token.id, by_token.budget_nanousd) == (RUN, 3_000_000_000)
    assert by_token.has_token
    assert 4990 < by_token.remember_seconds <= 5000
    assert by_key == Run(RUN, CAP_NANOUSD, max_in_flight=32)


def test_models_that_the_token_does_not_allow_do_not_exist_for_it(app: Flask) -> None:
    some = token(app, models=[MODEL])
    assert [model["id"] for model in get(app, "/v1/models", some).get_json()["data"]] == [MODEL]
    assert get(app, f"/v1/models/{EMBEDDING_MODEL}", some).status_code == 404
    assert code_of(post(app, "/v1/embeddings", some)) == (404, "model_not_found")
    assert "not supported" in post(app, "/agents/embedding", some).get_json()["error"]
    none = token(app, models=["no-such-model"])
    assert get(app, "/v1/models", none).get_json()["data"] == []
    assert code_of(post(app, "/v1/chat/completions", none)) == (404, "model_not_found")
    assert post(app, "/agents/inference", none).get_json()["error"].endswith("models: []")
    assert services_of(app).ledger.usage(RUN) is None


@pytest.mark.usefixtures("app")
def test_a_call_above_the_tokens_calls_per_minute_is_a_429_with_retry_after() -> None:
    def check(path: str) -> None:
        app = token_app()
        one = token(app, calls_per_minute=1)
        assert post(app, path, one).status_code == 200
        reply = post(app, path, one)
        assert code_of(reply) == (429, "rate_limited")
        assert 1 <= int(reply.headers["Retry-After"]) <= 60
        run = services_of(app).ledger.usage(RUN)
        assert run
        assert (run.calls, run.held_nanousd) == (1, 0)

    check_rows(["/agents/embedding", "/v1/embeddings", "/v1/chat/completions"], check)


def test_an_address_outside_the_list_is_refused_with_a_valid_token_too() -> None:
    app = app_of(RUN_TOKEN_KEY=KEY, ALLOWED_IPS="10.0.0.0/8")
    assert code_of(post(app, "/v1/chat/completions", token(app))) == (403, "ip_not_allowed")
    assert code_of(post(app, "/v1/chat/completions", "forged")) == (401, "invalid_api_key")


def test_where_tokens_are_required_the_shared_key_is_refused_everywhere() -> None:
    app = app_of(RUN_TOKEN_KEY=KEY, REQUIRE_RUN_TOKENS="1")
    for path in SPENDING:
        assert code_of(post(app, path, PROXY_KEY, run_id=RUN)) == (401, "invalid_api_key")
    for path in (f"/agents/usage?run_id={RUN}", "/v1/models", f"/v1/models/{MODEL}"):
        assert code_of(get(app, path, PROXY_KEY)) == (401, "invalid_api_key")
    assert get(app, "/v1/models", token(app)).status_code == 200


# --- closed runs


def test_a_closed_run_is_a_403_with_the_shared_key_and_a_401_with_its_token() -> None:
    def check(path: str) -> None:
        app = token_app()
        services_of(app).ledger.close(Run(RUN, CAP_NANOUSD, MAX_LIFETIME_SECONDS))
        assert code_of(post(app, path, PROXY_KEY, run_id=RUN)) == (403, "run_closed")
        assert code_of(post(app, path, token(app))) == (401, "invalid_api_key")

    check_rows(SPENDING, check)


def test_the_token_of_a_closed_run_cannot_read(app: Flask) -> None:
    closed = token(app)
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))
    for path in ("/agents/usage", "/v1/models", f"/v1/models/{MODEL}"):
        assert code_of(get(app, path, closed)) == (401, "invalid_api_key")
    assert get(app, f"/agents/usage?run_id={RUN}", PROXY_KEY).status_code == 200, (
        "the operator can still read its usage"
    )


def test_a_stream_of_a_closed_run_is_refused_before_it_starts(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.replace("POST", CHAT_URL, body=sse())
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))
    reply = post(app, "/v1/chat/completions", token(app), stream=True)
    assert (reply.content_type, code_of(reply)) == ("application/json", (401, "invalid_api_key"))


def test_no_token_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    app = app_of(RUN_TOKEN_KEY=KEY)
    forged = jwt.encode({"sub": "another"}, "", algorithm="none")
    texts = [token(app), token(app, run_id="another"), forged]
    for text in texts:
        for path in SPENDING:
            post(app, path, text, run_id=RUN)
        get(app, "/agents/usage", text)
    logged = capsys.readouterr().err
    assert "request" in logged
    assert not [text for text in texts if text in logged or text.split(".")[1] in logged]


def test_the_log_says_why_a_token_was_refused_and_the_answer_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = token_app()
    expired = jwt.encode({"sub": RUN, "aud": "ridges-proxy", "iat": 0, "exp": 1.5}, KEY)
    forged = jwt.encode({"sub": RUN, "aud": "ridges-proxy", "iat": 0, "exp": 1}, f"{KEY}-of-another-server")
    closed = token(app, "closed-run")
    services_of(app).ledger.close(Run("closed-run", CAP_NANOUSD))
    rows = [
        ("", "there is no bearer token"),
        ("no-token", "it is not a run token, or it is malformed"),
        (expired, "the token has expired"),
        (forged, "the token is not signed with a known key"),
        (closed, "the run is closed"),
    ]
    same = {"X-Request-ID": "request"}

    def check(row: tuple[str, str]) -> None:
        key, reason = row
        replies = [post(app, path, key, same) for path in SPENDING if path.startswith("/v1/chat")]
        replies.append(get(app, f"/agents/usage?run_id={RUN if key != closed else 'closed-run'}", key, same))
        assert {reply.status_code for reply in replies} == {401}
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [line["reason"] for line in lines] == [reason] * 2
        for reply in replies:
            assert reason not in reply.text
        if key:
            bodies.add(replies[-1].text)

    bodies: set[str] = set()
    check_rows(rows, check)
    assert len(bodies) == 1, "all answers to a token are equal"


def test_the_log_line_of_an_accepted_token_has_no_reason(
    upstream: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    app = token_app()
    assert post(app, "/v1/chat/completions", token(app)).status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines
    assert not any("reason" in line for line in lines)


def test_a_token_may_expire_at_a_fraction_of_a_second(app: Flask) -> None:
    claims = {"sub": RUN, "aud": "ridges-proxy", "iat": time.time() - 0.25, "exp": time.time() + 60.5}
    assert post(app, "/v1/chat/completions", jwt.encode(claims, KEY)).status_code == 200
    usage = get(app, f"/agents/usage?run_id={RUN}", jwt.encode(claims, KEY))
    assert (usage.status_code, usage.get_json()["calls"]) == (200, 1)
