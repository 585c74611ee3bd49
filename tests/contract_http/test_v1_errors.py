"""Every error on `/v1` has OpenAI's envelope and its own status. `/agents` keeps its own envelope."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
import requests
from flask import abort
from werkzeug.exceptions import default_exceptions

from ridges_proxy import errors
from ridges_proxy.errors import InvalidRequestError, Problem, ProxyError
from tests.contract_http import service
from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS, UPSTREAM_CANARY
from tests.contract_http.openai_api import (
    CHAT_PATH,
    HELLO_HOLD_NANOUSD,
    WHOLE,
    ask,
    chat,
    embed,
    envelope,
    stream,
)
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT,
    CHAT_URL,
    HEADERS,
    NANOUSD_PER_TOKEN,
    OWN_BUDGET,
    REQUEST_ID,
    app_of,
    hold_of,
    post,
    seen,
    services_of,
    spend,
    spent_nanousd,
    untouched,
)
from tests.support.app import CHUTES_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

    Send = Callable[..., TestResponse]

SPENDING: tuple[Send, ...] = (chat, stream, embed)
CHATS: tuple[Send, ...] = (chat, stream)
POST_PATHS = (CHAT_PATH, "/v1/responses", "/v1/embeddings", "/v1/estimate")

ALL_ROUTES = "GET /docs shows all routes"
HELP = f"OpenAI clients need a base URL that ends with /v1. {ALL_ROUTES}"

TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def type_of(status: int, code: str = "") -> str:
    if code == "run_busy":
        return "run_busy_error"
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def leaves(kind: type[ProxyError]) -> list[type[ProxyError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


WITH_ARGUMENTS: dict[type[ProxyError], ProxyError] = {
    InvalidRequestError: InvalidRequestError([Problem(["body", "messages", 0, "content"], "Bad", "x")]),
    errors.ModelNotSupportedError: errors.ModelNotSupportedError("m", []),
    errors.RateLimitedError: errors.RateLimitedError(errors.RateLimitStatus(10, 60, 0, 7)),
    errors.AddressLimitedError: errors.AddressLimitedError(errors.RateLimitStatus(10, 60, 0, 7)),
    errors.PeriodFullError: errors.PeriodFullError(errors.RefusingBudget("all", "all", "hour", 3_600.0), 7),
    errors.UpstreamRejectedError: errors.UpstreamRejectedError(400, "the upstream's text"),
}


FIELDS_OF_BUDGETS: dict[type[ProxyError], dict[str, object]] = {
    errors.BudgetExhaustedError: OWN_BUDGET,
    errors.PeriodFullError: {"window": "hour", "resets_at": "1970-01-01T01:00:00.000+00:00"},
}


def error_of(kind: type[ProxyError]) -> ProxyError:
    if kind in WITH_ARGUMENTS:
        return WITH_ARGUMENTS[kind]
    return kind(500) if issubclass(kind, errors.UpstreamRefusedError) else kind()


def test_every_error_of_the_proxy_has_the_envelope_and_its_status() -> None:
    def check(kind: type[ProxyError]) -> None:
        app, error = app_of(), error_of(kind)

        def fail() -> NoReturn:
            raise error

        app.add_url_rule("/v1/test", view_func=fail)
        reply = app.test_client().get("/v1/test", headers=HEADERS)

        status, message, param = error.status, error.message, None
        if kind is InvalidRequestError:
            status, message, param = 400, "messages[0].content: Bad", "messages[0].content"
        if kind is errors.UpstreamRejectedError:
            message = "the upstream's text"
        expected = envelope(error.code, type_of(status, error.code), message, param)
        expected["error"] |= FIELDS_OF_BUDGETS.get(kind, {})
        assert seen(reply) == (status, expected)
        retries = error.retry_after_seconds if status in {429, 503} else None
        assert reply.headers.get("Retry-After") == (str(retries) if retries else None)
        assert reply.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
        assert reply.headers["X-Request-ID"] == REQUEST_ID

    check_rows(leaves(ProxyError), check)


def test_every_error_of_the_framework_has_the_envelope() -> None:
    def check(status: int) -> None:
        app = app_of()
        texts = [] if status == 405 else ["canary"]  # for a 405, werkzeug takes the allowed methods
        app.add_url_rule("/v1/test", view_func=lambda: abort(status, *texts))
        code = {404: "not_found", 405: "method_not_allowed"}.get(
            status, "invalid_request" if status < 500 else "internal_error"
        )
        reply = app.test_client().get("/v1/test", headers=HEADERS)
        message = default_exceptions[status]().name
        if status == 404:
            message += f". {ALL_ROUTES}"
        assert seen(reply) == (status, envelope(code, type_of(status), message))
        assert reply.content_type == "application/json"

    check_rows(sorted(default_exceptions), check)


PATHS = [
    # A path that does not exist, and the route that it seems to mean.
    ("/chat/completions", "/v1/chat/completions"),
    ("/v1/v1/chat/completions", "/v1/chat/completions"),
    ("/api/chat/completions", "/v1/chat/completions"),
    ("/v2/chat/completions", "/v1/chat/completions"),
    ("/openai/deployments/gpt/chat/completions", "/v1/chat/completions"),
    ("/v1/chat/completions/", "/v1/chat/completions"),
    ("/v1//chat/completions//", "/v1/chat/completions"),
    ("/V1/Chat/Completions", "/v1/chat/completions"),
    ("/v1/chat/completion", "/v1/chat/completions"),
    ("/v1/completions", "/v1/chat/completions"),
    ("/v1/engines/a/embeddings", "/v1/embeddings"),
    ("/models", "/v1/models"),
    ("/v1//models", "/v1/models"),
    ("/v1/nowhere", None),
    ("/v1/messages", None),
    ("/v1/", None),
    ("/v1", None),
]


def test_a_path_that_does_not_exist_is_a_404_that_names_the_route_that_is_near(app: Flask) -> None:
    def check(row: tuple[str, str | None]) -> None:
        path, route = row
        message = f"Not Found. Did you mean {route}? {HELP}" if route else f"Not Found. {ALL_ROUTES}"
        reply = app.test_client().get(path, headers={"X-Request-ID": REQUEST_ID})
        assert seen(reply) == (404, envelope("not_found", "not_found_error", message))

    check_rows(PATHS, check)


def test_another_method_is_a_405_in_the_envelope(app: Flask) -> None:
    reply = app.test_client().get(CHAT_PATH, headers=HEADERS)
    message = "Method Not Allowed. Allowed here: POST"
    expected = envelope("method_not_allowed", "invalid_request_error", message)
    assert seen(reply) == (405, expected)
    assert set(reply.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_the_other_routes_keep_their_own_envelope(app: Flask) -> None:
    detail = [service.problem(["body", "messages"], "Field required", "missing")]
    assert seen(post(app, b'{"run_id": "r"}')) == (422, service.envelope(detail, "invalid_request"))
    reply = app.test_client().get("/v2/nowhere", headers=HEADERS)
    assert seen(reply) == (404, service.envelope("Not Found", "not_found", hint=ALL_ROUTES))


def test_every_route_without_the_key_is_a_401(app: Flask) -> None:
    def check(path: str) -> None:
        client, method = app.test_client(), "GET" if "models" in path else "POST"
        reply = client.open(path, method=method, headers={"X-Request-ID": REQUEST_ID})
        message = "Invalid API key. The request has no key: send Authorization: Bearer KEY"
        assert seen(reply) == (401, envelope("invalid_api_key", "authentication_error", message))
        wrong = client.open(path, method=method, headers=HEADERS | {"Authorization": "Bearer wrong"})
        message = (
            "Invalid API key. A run token may have expired, or its run is closed:"
            " the server's log has the reason"
        )
        expected = envelope("invalid_api_key", "authentication_error", message)
        assert seen(wrong) == (401, expected)

    check_rows([*POST_PATHS, "/v1/models", "/v1/models/m"], check)


def test_an_address_that_is_not_allowed_is_a_403() -> None:
    reply = chat(app_of(ALLOWED_IPS="192.0.2.1"))
    assert seen(reply) == (403, envelope("ip_not_allowed", "permission_error", "IP not allowed"))


# --- bodies ------------------------------------------------------------------------------------------------


BAD_BODIES = [
    (b"", "the body: Field required"),
    (b"{", "the body: JSON decode error: unexpected end of data: line 1 column 2 (char 1)"),
    (b"[]", "the body: Input should be a valid dictionary or object to extract fields from"),
    (
        b"[" * 2000 + b"]" * 2000,
        "the body: JSON decode error: nested too deeply: line 1 column 1026 (char 1025)",
    ),
]
SURROGATE = "a string has a surrogate without its pair"
CAUSES = [
    (rb'{"messages":"\ud800"}', f"{SURROGATE}: line 1 column 14 (char 13)"),
    (rb'{"messages":"\ud800x"}', f"{SURROGATE}: line 1 column 14 (char 13)"),
    (rb'{"messages":"\ud800\n"}', f"{SURROGATE}: line 1 column 14 (char 13)"),
    (rb'{"messages":"\ud800\ud800"}', f"{SURROGATE}: line 1 column 14 (char 13)"),
    (rb'{"messages":"\udc00"}', f"{SURROGATE}: line 1 column 14 (char 13)"),
    ('{\n"é":"\\ud800"}'.encode(), f"{SURROGATE}: line 2 column 6 (char 7)"),
    (b'{"messages":"\xed\xa0\x80"}', "not valid UTF-8: byte 13"),
    (b'{"messages":"\xff"}', "not valid UTF-8: byte 13"),
    (b'{"messages":"\xc3', "not valid UTF-8: byte 13"),
    ('{"messages":""}'.encode("utf-16"), "not valid UTF-8: byte 0"),
    (b"\xef\xbb\xbf{}", "UTF-8 byte order mark (BOM) is not supported: line 1 column 1 (char 0)"),
    (b'{"n":NaN}', "unexpected character, expected a JSON value: line 1 column 6 (char 5)"),
    (b'{"n":1,}', "trailing comma is not allowed: line 1 column 7 (char 6)"),
    (b'{"n":01}', "number with leading zero is not allowed: line 1 column 6 (char 5)"),
    (b'{"n":1e999}', "number is infinity when parsed as double: line 1 column 6 (char 5)"),
    (b"{'n':1}", "unexpected character, expected a string key: line 1 column 2 (char 1)"),
    (b'{"n":"a\nb"}', "unexpected control character in string: line 1 column 8 (char 7)"),
    (b"{} {}", "unexpected content after document: line 1 column 4 (char 3)"),
]


def test_a_body_that_is_not_an_object_is_a_400_without_a_field(app: Flask) -> None:
    def check(row: tuple[str, bytes, str]) -> None:
        path, body, message = row
        expected = envelope("invalid_request", "invalid_request_error", message)
        assert seen(post(app, body, path)) == (400, expected)

    check_rows([(path, *row) for path in POST_PATHS for row in BAD_BODIES], check)


def test_a_body_that_is_not_json_is_a_400_with_its_cause_and_place(app: Flask) -> None:
    def check(row: tuple[str, bytes, str]) -> None:
        path, body, cause = row
        message = f"the body: JSON decode error: {cause}"
        expected = envelope("invalid_request", "invalid_request_error", message)
        assert seen(post(app, body, path)) == (400, expected)

    check_rows([(path, *row) for path in POST_PATHS for row in CAUSES], check)


def test_a_compressed_body_is_a_415_that_says_so(app: Flask) -> None:
    message = "The request body is compressed: send it as plain JSON, without Content-Encoding"
    body = gzip.compress(orjson.dumps(CHAT))

    def check(row: tuple[str, str]) -> None:
        path, coding = row
        headers = {**HEADERS, "Content-Encoding": coding, "Content-Type": "application/json"}
        reply = app.test_client().post(path, data=body, headers=headers)
        expected: dict[str, Any] = {"detail": message, "code": "body_compressed", "request_id": REQUEST_ID}
        if path.startswith("/v1"):
            expected = envelope("body_compressed", "invalid_request_error", message)
        assert seen(reply) == (415, expected)
        assert reply.headers["Accept-Encoding"] == "identity"
        assert untouched(app)

    codings = [
        "gzip",
        "GZIP",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "compress",
        "identity, gzip",
        " gzip\t",
        "gzip,br",
    ]
    paths = [*POST_PATHS, "/agents/inference", "/agents/embedding"]
    check_rows([(path, coding) for path in paths for coding in codings], check)


def test_a_content_encoding_that_compresses_nothing_does_not_matter(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)

    def check(coding: str) -> None:
        reply = ask(app_of(), CHAT_PATH, CHAT, **{"Content-Encoding": coding})
        assert reply.status_code == 200

    check_rows(["", "identity", "Identity", "utf-8", "identity, identity"], check)


def test_a_body_of_another_type_is_a_400(app: Flask) -> None:
    reply = post(app, b"{}", CHAT_PATH, "text/plain")
    assert reply.status_code == 400


def test_a_body_that_is_too_large_is_a_413() -> None:
    reply = chat(app_of(MAX_BODY_BYTES="1024"), user="x" * 2000)
    expected = envelope("body_too_large", "invalid_request_error", "The request body is too large")
    assert seen(reply) == (413, expected)


def test_a_field_that_is_not_listed_is_named(app: Flask) -> None:
    message = (
        "best_of: Not accepted here: it can make tokens beyond max_tokens; see /docs for the accepted fields"
    )
    expected = envelope("invalid_request", "invalid_request_error", message, "best_of")
    assert seen(chat(app, best_of=5)) == (400, expected)
    assert untouched(app)


def test_five_problems_are_named_and_the_others_counted(app: Flask) -> None:
    error = (chat(app, messages=[{}] * 9).json or {})["error"]
    assert error["param"] == "messages[0].role"
    assert error["message"].count("Field required") == 5
    assert error["message"].endswith("; and 4 more")


def test_a_very_long_name_is_shortened_in_the_error(app: Flask) -> None:
    reply = chat(app, **{"x" * 100_000: 1})
    assert reply.status_code == 400
    assert len(reply.data) < 1000


def test_a_value_that_is_nested_too_deeply_is_a_400_that_names_the_field(app: Flask) -> None:
    def check(row: tuple[str, int]) -> None:
        field, depth = row
        value = '[{"a":' if field == "tools" else '{"a":'
        value += "[" * depth + "]" * depth + ("}]" if field == "tools" else "}")
        messages = '[{"role":"user","content":"Hello"}]'
        body = f'{{"run_id":"{service.RUN}","messages":{messages},"{field}":{value}}}'
        message = f"{field}: Input is nested too deeply"
        expected = envelope("invalid_request", "invalid_request_error", message, field)
        assert seen(post(app, body.encode(), CHAT_PATH)) == (400, expected)
        assert untouched(app)

    fields, depths = ("tools", "response_format"), (129, 254, 255, 1000)
    check_rows([(field, depth) for field in fields for depth in depths], check)


# --- money -------------------------------------------------------------------------------------------------


def test_an_exhausted_budget_is_a_402_that_is_not_to_be_retried(app: Flask) -> None:
    spend(app, CAP_NANOUSD)

    def check(send: Send) -> None:
        reply = send(app)
        message = "The run's budget is exhausted: what remains does not pay for this call. Do not retry it"
        expected = envelope("budget_exhausted", "insufficient_quota", message)
        expected["error"] |= OWN_BUDGET
        assert seen(reply) == (402, expected)
        assert "Retry-After" not in reply.headers

    check_rows(SPENDING, check)


def test_a_budget_that_is_held_is_a_429_to_be_retried() -> None:
    app = app_of(HOLD_WAIT_SECONDS="0")
    hold_of(app, CAP_NANOUSD)

    def check(send: Send) -> None:
        reply = send(app)
        message = "Other calls are still in progress: try again soon"
        assert seen(reply) == (429, envelope("run_busy", "run_busy_error", message))
        assert reply.headers["Retry-After"] == "2"

    check_rows(SPENDING, check)


def test_too_many_calls_of_a_run_are_a_429_and_too_many_of_all_runs_a_503() -> None:
    def check(send: Send) -> None:
        app = app_of(MAX_CONCURRENT_CALLS="2", MAX_CONCURRENT_CALLS_PER_RUN="1")
        with services_of(app).admission.enter("one"), services_of(app).admission.enter("other"):
            reply = send(app)
            assert seen(reply) == (503, envelope("overloaded", "server_error", "The proxy is overloaded"))
            assert reply.headers["Retry-After"] == "2"
        assert untouched(app)
        hold = hold_of(app, 0)
        message = "The run has too many calls in flight: try again when one of them has ended"
        reply = send(app)
        assert seen(reply) == (429, envelope("too_many_in_flight", "rate_limit_error", message))
        assert reply.headers["Retry-After"] == "1"
        usage = services_of(app).ledger.release(hold)
        assert usage
        assert (usage.calls, usage.in_flight) == (0, 0)

    check_rows(SPENDING, check)


def test_a_model_without_a_price_is_a_404(app: Flask) -> None:
    def check(send: Send) -> None:
        error = seen(send(app, model="gpt-4"))[1]["error"]
        assert (error["code"], error["type"]) == ("model_not_found", "not_found_error")
        assert untouched(app)

    check_rows(SPENDING, check)


def test_an_unknown_model_is_told_the_models_there_are_the_closest_first() -> None:
    many = [f"vendor/model-{number}" for number in range(20)]
    names = [*many, "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3-0324"]
    app = app_of(MODEL_PRICES=orjson.dumps(dict.fromkeys(names, 1)).decode(), DEFAULT_MODEL=names[0])

    def check(row: tuple[str, list[str]]) -> None:
        model, first = row
        status, body = seen(chat(app, model=model))
        listed = body["error"]["message"].partition("the closest first: ")[2]
        named, _, more = listed.partition(", and ")
        assert (status, named.split(", ")[: len(first)], more) == (404, first, "12 more")

    rows = [
        ("DeepSeek-V3", [names[-1], names[-2]]),
        ("deepseek/deepseek-r1", [names[-2], names[-1]]),
        ("Model-7", ["vendor/model-7"]),
        ("\U0001f600" * 256, many[:10]),
    ]
    check_rows(rows, check)


def test_a_caller_without_a_key_is_not_told_the_models(app: Flask) -> None:
    for path in ("/v1/models/gpt-4", "/v1/models", "/models/gpt-4", "/"):
        assert service.MODEL not in app.test_client().get(path).text


# --- the upstream's failures -------------------------------------------------------------------------------

STATUSES = {
    "upstream_auth": 502,
    "upstream_quota": 502,
    "upstream_model": 502,
    "upstream_rejected": 400,
    "upstream_busy": 429,
    "upstream_no_instance": 503,
    "upstream_failed": 502,
    "upstream_timeout": 504,
    "upstream_broken": 502,
}


def test_a_failure_of_the_upstream_has_its_own_status_and_costs_what_it_may_have_cost(
    upstream: responses.RequestsMock,
) -> None:
    failures = {**REFUSALS, **EXCEPTIONS}

    def check(row: tuple[str, Send]) -> None:
        name, send = row
        app, failure = app_of(), failures[name]
        upstream.reset()
        failure.arrange(upstream, CHAT_URL)
        reply = send(app)
        status = STATUSES[failure.code]
        error = orjson.loads(reply.data)["error"]
        assert (reply.status_code, error["code"], error["type"]) == (status, failure.v1_code, type_of(status))
        assert reply.content_type == "application/json"
        assert ("Retry-After" in reply.headers) is (status in {429, 503})
        assert UPSTREAM_CANARY not in reply.text
        refused = isinstance(failure.body, bytes)
        assert spent_nanousd(app) == (0 if refused else HELLO_HOLD_NANOUSD)
        assert reply.headers["X-Run-Cost-USD"] == ("0.000000000" if refused else "0.002294730")

    check_rows([(name, send) for name in failures for send in CHATS], check)


def test_a_complete_answer_that_is_not_json_is_a_502(upstream: responses.RequestsMock) -> None:
    def check(name: str) -> None:
        upstream.reset()
        NOT_JSON[name].arrange(upstream, CHAT_URL)
        assert chat(app_of()).status_code == 502

    check_rows(NOT_JSON, check)


def test_the_upstreams_text_about_a_request_is_passed_on_but_never_the_key(
    upstream: responses.RequestsMock,
) -> None:
    def check(send: Send) -> None:
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, status=400, json={"detail": "max_tokens must be at most 8"})
        expected = envelope("upstream_rejected", "invalid_request_error", "max_tokens must be at most 8")
        assert seen(send(app)) == (400, expected)
        upstream.reset()
        upstream.post(CHAT_URL, status=400, json={"detail": f"bad key {CHUTES_KEY}"})
        message = "The upstream rejected the request"
        assert seen(send(app)) == (400, envelope("upstream_rejected", "invalid_request_error", message))

    check_rows(CHATS, check)


def test_an_upstream_that_cannot_be_reached_is_a_502_and_costs_nothing(refusing_url: str) -> None:
    def check(send: Send) -> None:
        app = app_of(CHUTES_BASE_URL=refusing_url)
        message = "The upstream cannot be reached"
        assert seen(send(app)) == (502, envelope("upstream_unreachable", "server_error", message))
        assert spent_nanousd(app) == 0

    check_rows(CHATS, check)


def test_an_internal_error_shows_no_details(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> NoReturn:
        raise requests.RequestException("canary")

    monkeypatch.setattr(services_of(app).calls, "complete", fail)
    expected = envelope("internal_error", "server_error", "Internal Server Error")
    assert seen(chat(app)) == (500, expected)


def test_a_refused_request_does_not_change_the_ledger(app: Flask) -> None:
    bad: list[dict[str, object]] = [
        {"n": 0},
        {"max_tokens": -1},
        {"messages": []},
        {"audio": {"voice": "a"}},
        {"run_id": ""},
    ]
    for fields in bad:
        assert chat(app, **fields).status_code == 400
    assert untouched(app)
    hold_of(app, NANOUSD_PER_TOKEN)
    before = services_of(app).ledger.usage(service.RUN)
    assert chat(app, n=0).status_code == 400
    assert services_of(app).ledger.usage(service.RUN).spent_nanousd == before.spent_nanousd == 0  # type: ignore[union-attr] # the run is known
