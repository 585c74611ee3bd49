"""Under `/v1` every error has OpenAI's envelope and its true status, whoever found it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import requests
from flask import abort
from werkzeug.exceptions import default_exceptions

from ridges_proxy import errors
from ridges_proxy.errors import Problem, ProxyError
from tests.contract_http.failures import (
    EXCEPTIONS,
    REFUSALS,
    UPSTREAM_CANARY,
    Failure,
    each,
)
from tests.contract_http.openai_calls import STREAMED, WHOLE, chat, get, openai_envelope, vectors
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    HELLO_TOKENS,
    NANOUSD_PER_TOKEN,
    REQUEST_ID,
    RUN,
    app_of,
    envelope,
    hold_of,
    parts_of,
    post,
    seen,
    spend,
    spent_nanousd,
    untouched,
)
from tests.support.app import CHUTES_KEY

if TYPE_CHECKING:
    import responses
    from flask import Flask

CANARY = "canary-of-a-bug"

FORMS: list[dict[str, object]] = [{}, {"stream": True}]
"""Whole, and as a stream: what fails before the answer begins is the same in both."""

TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def type_of(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


# --- the envelope

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "InvalidRequestError": ([Problem(["body", "messages", 0, "content"], "Odd", "odd")],),
    "ModelNotSupportedError": ("odd", []),
    "RateLimitedError": (7,),
}


def all_errors(kind: type[ProxyError] = ProxyError) -> list[type[ProxyError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


def error_of(kind: type[ProxyError]) -> ProxyError:
    usual = (400,) if issubclass(kind, errors.UpstreamRefusedError) else ()
    return kind(*ARGUMENTS.get(kind.__name__, usual))


def raise_at(app: Flask, path: str, error: Exception) -> None:
    def fail() -> NoReturn:
        raise error

    app.add_url_rule(path, view_func=fail)


OURS = [kind for kind in dict.fromkeys(all_errors()) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_of_ours_has_openais_envelope_and_its_true_status(
    app: Flask, kind: type[ProxyError]
) -> None:
    raise_at(app, "/v1/test", error := error_of(kind))
    reply = get(app, "/v1/test")
    status, message, param = kind.status, kind.message, None
    if kind is errors.InvalidRequestError:
        status, message, param = 400, "messages[0].content: Odd", "messages[0].content"
    assert seen(reply) == (status, openai_envelope(message, type_of(status), kind.code, param))
    assert reply.content_type == "application/json"
    waits = str(error.retry_after_seconds) if status in {429, 503} and error.retry_after_seconds else None
    assert reply.headers.get("Retry-After") == waits
    assert reply.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


@pytest.mark.parametrize("kind", OURS)
def test_the_same_error_elsewhere_has_the_envelope_that_agents_know(
    app: Flask, kind: type[ProxyError]
) -> None:
    raise_at(app, "/agents/test", error_of(kind))
    detail: object = kind.message
    if kind is errors.InvalidRequestError:
        detail = [{"loc": ["body", "messages", 0, "content"], "msg": "Odd", "type": "odd"}]
    assert seen(get(app, "/agents/test")) == (kind.status, envelope(detail, kind.code))


CODES = {404: "not_found", 405: "method_not_allowed"}


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_every_error_that_the_framework_knows_has_openais_envelope(app: Flask, status: int) -> None:
    app.add_url_rule("/v1/test", view_func=lambda: abort(status, CANARY))
    code = CODES.get(status, "invalid_request" if status < 500 else "internal_error")
    expected = openai_envelope(default_exceptions[status]().name, type_of(status), code)
    assert seen(get(app, "/v1/test")) == (status, expected)


@pytest.mark.parametrize("path", ["/v1/", "/v1/nowhere", "/v1/chat", "/v1/chat/completions/", "/v1/Models"])
def test_a_path_that_does_not_exist_is_a_404_in_it(app: Flask, path: str) -> None:
    assert seen(get(app, path)) == (404, openai_envelope("Not Found", "not_found_error", "not_found"))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/estimate"])
def test_another_method_is_a_405_in_it_that_names_the_right_ones(app: Flask, path: str) -> None:
    reply = get(app, path)
    expected = openai_envelope("Method Not Allowed", "invalid_request_error", "method_not_allowed")
    assert seen(reply) == (405, expected)
    assert set(reply.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_a_bug_says_nothing_of_itself(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    raise_at(app, "/v1/test", RuntimeError(CANARY))
    expected = openai_envelope("Internal Server Error", "server_error", "internal_error")
    assert seen(get(app, "/v1/test")) == (500, expected)
    assert CANARY not in capsys.readouterr().err


# --- who is calling

SPENDING = ["/v1/chat/completions", "/v1/embeddings", "/v1/estimate"]


@pytest.mark.parametrize("path", SPENDING)
@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "Basic wrong"])
def test_without_the_key_nothing_is_done_and_nothing_else_told(app: Flask, path: str, key: str) -> None:
    headers = {"X-Request-ID": REQUEST_ID, "Authorization": key}
    reply = app.test_client().post(path, data=b"{", headers=headers)
    assert seen(reply) == (
        401,
        openai_envelope("Invalid API key", "authentication_error", "invalid_api_key"),
    )


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x"])
def test_the_models_are_not_for_everybody(app: Flask, path: str) -> None:
    assert app.test_client().get(path).status_code == 401


def test_another_address_is_refused() -> None:
    reply = chat(app_of(ALLOWED_IPS="192.0.2.1"))
    assert seen(reply) == (403, openai_envelope("IP not allowed", "permission_error", "ip_not_allowed"))


# --- the body


@pytest.mark.parametrize("path", SPENDING)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"5", b"\xff", b"{}" * 2, b'{"n":NaN}'])
def test_a_body_that_is_no_object_is_a_400(app: Flask, path: str, body: bytes) -> None:
    status, answer = seen(post(app, body, path))
    assert (status, answer["error"]["code"]) == (400, "invalid_request")
    assert answer["error"]["message"]


@pytest.mark.parametrize("path", SPENDING)
def test_another_content_type_is_a_400(app: Flask, path: str) -> None:
    assert post(app, b"{}", path, "text/plain").status_code == 400


@pytest.mark.parametrize("path", SPENDING)
def test_a_body_that_is_too_large_is_a_413(path: str) -> None:
    reply = post(app_of(MAX_BODY_BYTES="1024"), b" " * 1025, path)
    expected = openai_envelope("The request body is too large", "invalid_request_error", "body_too_large")
    assert seen(reply) == (413, expected)


# --- money and room

LEAST_NANOUSD = (HELLO_TOKENS + 16) * NANOUSD_PER_TOKEN


@pytest.mark.parametrize("form", FORMS)
def test_an_exhausted_budget_is_a_402_which_clients_do_not_repeat(
    app: Flask, form: dict[str, object]
) -> None:
    spend(app, CAP_NANOUSD - LEAST_NANOUSD + 1)
    reply = chat(app, form)
    expected = openai_envelope("The run's budget is exhausted", "insufficient_quota", "budget_exhausted")
    assert seen(reply) == (402, expected)
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize("form", FORMS)
def test_a_budget_held_by_others_is_a_429_for_a_while(app: Flask, form: dict[str, object]) -> None:
    hold_of(app, CAP_NANOUSD - LEAST_NANOUSD + 1)
    reply = chat(app, form)
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "2")
    assert seen(reply)[1]["error"]["code"] == "budget_held"


def test_a_budget_for_the_least_call_is_enough(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=WHOLE)
    spend(app, CAP_NANOUSD - LEAST_NANOUSD)
    assert chat(app).status_code == 200


@pytest.mark.parametrize("form", FORMS)
def test_too_many_calls_of_one_run_are_a_429(form: dict[str, object]) -> None:
    app = app_of(MAX_CONCURRENT_CALLS_PER_RUN="1")
    with parts_of(app).admission.enter(RUN):
        reply = chat(app, form)
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "1")
    assert seen(reply)[1]["error"]["code"] == "too_many_in_flight"


@pytest.mark.parametrize("form", FORMS)
def test_while_the_service_shuts_down_a_call_is_a_503(app: Flask, form: dict[str, object]) -> None:
    parts_of(app).admission.drain()
    reply = chat(app, form)
    expected = openai_envelope("The proxy is shutting down", "server_error", "overloaded")
    assert seen(reply) == (503, expected)
    assert reply.headers["Retry-After"] == "5"


def test_a_model_without_a_price_is_a_404(app: Flask) -> None:
    for reply in (chat(app, model="odd"), chat(app, model="odd", stream=True), vectors(app, model="odd")):
        expected = openai_envelope("Model not supported", "not_found_error", "model_not_found")
        assert seen(reply) == (404, expected)
    assert untouched(app)


# --- the upstream

UPSTREAM_STATUSES = {
    "upstream_auth": 502,
    "upstream_quota": 502,
    "upstream_rejected": 400,
    "upstream_model": 502,
    "upstream_busy": 429,
    "upstream_no_instance": 503,
    "upstream_failed": 502,
    "upstream_broken": 502,
    "upstream_timeout": 504,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS))
def test_a_failure_before_the_answer_has_its_true_status_in_a_stream_too(
    app: Flask,
    upstream: responses.RequestsMock,
    failure: Failure,
    form: dict[str, object],
) -> None:
    failure.arrange(upstream, CHAT_URL)
    reply = chat(app, form)
    status, body = seen(reply)
    assert (status, body["error"]["code"]) == (UPSTREAM_STATUSES[failure.code], failure.code)
    assert body["error"]["type"] == type_of(status)
    assert ("Retry-After" in reply.headers) is (status in {429, 503})
    assert UPSTREAM_CANARY.encode() not in reply.data
    books = parts_of(app).ledger.usage(RUN)
    assert books is not None
    assert (books.held_nanousd, books.in_flight) == (0, 0)
    assert parts_of(app).admission.in_flight == 0
    assert (books.spent_nanousd == 0) is (failure.status != 200)


@pytest.mark.parametrize("form", FORMS)
def test_an_upstream_that_was_never_reached_is_a_502_that_costs_nothing(
    refusing_url: str, form: dict[str, object]
) -> None:
    app = app_of(CHUTES_BASE_URL=refusing_url)
    status, body = seen(chat(app, form))
    assert (status, body["error"]["code"]) == (502, "upstream_unreachable")
    assert spent_nanousd(app) == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "max_tokens is too large"}', "max_tokens is too large"),
        (b'{"error": {"message": "max_tokens\\nis too large"}}', "max_tokens is too large"),
        (b"<html>", "The upstream rejected the request"),
        (f'{{"detail": "key {CHUTES_KEY}"}}'.encode(), "The upstream rejected the request"),
    ],
)
def test_a_request_that_the_upstream_rejects_is_a_400_in_its_words(
    app: Flask,
    upstream: responses.RequestsMock,
    body: bytes,
    words: str,
    form: dict[str, object],
) -> None:
    upstream.post(CHAT_URL, body=body, status=400)
    expected = openai_envelope(words, "invalid_request_error", "upstream_rejected")
    assert seen(chat(app, form)) == (400, expected)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503])
def test_the_upstreams_words_about_our_account_are_not_the_callers_to_see(
    app: Flask, upstream: responses.RequestsMock, status: int
) -> None:
    upstream.post(CHAT_URL, json={"detail": UPSTREAM_CANARY}, status=status)
    assert UPSTREAM_CANARY.encode() not in chat(app).data


def test_the_words_of_a_rejection_are_not_for_agents(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json={"detail": UPSTREAM_CANARY}, status=400)
    body = b'{"run_id": "r", "messages": [{"role": "user", "content": "Hi"}]}'
    assert UPSTREAM_CANARY.encode() not in post(app, body).data


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_a_service_goes_on_after_a_failure(app: Flask, upstream: responses.RequestsMock, path: str) -> None:
    url = EMBED_URL if path.endswith("embeddings") else CHAT_URL
    upstream.post(url, body=requests.ReadTimeout())
    ask = vectors if url == EMBED_URL else chat
    assert ask(app).status_code == 504
    upstream.replace("POST", url, body=b"[[0.5]]" if url == EMBED_URL else WHOLE)
    assert ask(app).status_code == 200


def test_a_browser_may_read_an_error(app: Flask) -> None:
    reply = app.test_client().get("/v1/models", headers={"Origin": "https://a.test"})
    assert reply.status_code == 401
    assert reply.headers["Access-Control-Allow-Origin"]
    preflight = app.test_client().options("/v1/chat/completions", headers={"Origin": "https://a.test"})
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"]
    assert HEADERS["Authorization"] not in str(preflight.headers)


def test_what_was_streamed_before_is_no_whole_answer(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=STREAMED)
    status, body = seen(chat(app))
    assert (status, body["error"]["code"]) == (502, "upstream_broken")
