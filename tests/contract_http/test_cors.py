from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NoReturn

import orjson

from tests.contract_http.failures import REFUSALS
from tests.contract_http.service import CHAT, CHAT_URL, HEADERS, TEXT, answer_of, app_of, untouched
from tests.support.app import OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

ORIGIN = "https://tools.example"
ALLOWED = ("*", None)
"""No credentials: with them, every page on the web could use those that a browser has stored."""


def cors_of(reply: TestResponse) -> tuple[str | None, str | None]:
    """The origin that may read the response, and whether it may send credentials."""
    headers = reply.headers
    return headers.get("Access-Control-Allow-Origin"), headers.get("Access-Control-Allow-Credentials")


def preflight(
    app: Flask,
    path: str,
    method: str = "POST",
    origin: str = ORIGIN,
    headers: str = "authorization, content-type",
) -> TestResponse:
    """Send a preflight as a browser does: without a key."""
    given = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return app.test_client().options(path, headers=given)


def test_a_preflight_needs_no_key_and_allows_the_key_to_be_sent(app: Flask) -> None:
    def check(path: str) -> None:
        reply = preflight(app, path)
        assert (reply.status_code, reply.data) == (200, b"")
        assert cors_of(reply) == ALLOWED
        assert reply.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert {"GET", "POST", "OPTIONS"} <= set(reply.headers["Access-Control-Allow-Methods"].split(", "))

    agents = ["/agents/inference", "/agents/embedding", "/agents/usage"]
    platform = ["/api/inference", "/api/usage", "/api/v1/chat/completions"]
    check_rows([*agents, *platform, "/health"], check)


def test_a_preflight_is_answered_where_addresses_are_limited() -> None:
    assert cors_of(preflight(app_of(ALLOWED_IPS="203.0.113.9"), "/agents/inference")) == ALLOWED


def test_a_preflight_allows_the_headers_of_a_run_and_of_a_call(app: Flask) -> None:
    asked = "x-run-id, x-final-call, x-min-tokens"
    reply = preflight(app, "/v1/chat/completions", headers=asked)
    assert set(reply.headers["Access-Control-Allow-Headers"].split(", ")) == set(asked.split(", "))


def test_a_browser_may_read_an_answer(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    app = app_of(RATE_LIMIT_PER_RUN="10/minute")
    reply = app.test_client().post("/agents/inference", json=CHAT, headers={**HEADERS, "Origin": ORIGIN})
    assert reply.status_code == 200
    assert cors_of(reply) == ALLOWED
    shown = set(reply.headers["Access-Control-Expose-Headers"].split(", "))
    own = {name for name in dict(reply.headers) if name.startswith(("X-", "RateLimit-"))}
    assert "X-Run-Budget-State" in own
    assert own < shown


def test_no_origin_may_send_credentials_where_all_origins_may_call(app: Flask) -> None:
    def check(origin: str) -> None:
        replies = [
            preflight(app, "/agents/inference", origin=origin),
            preflight(app, "/v1/chat/completions", origin=origin),
            app.test_client().get("/health", headers={"Origin": origin}),
            app.test_client().post("/agents/inference", json=CHAT, headers={"Origin": origin}),
        ]
        assert {cors_of(reply) for reply in replies} == {ALLOWED}

    check_rows([ORIGIN, "null", "*", "http://localhost", "file://", "chrome-extension://x"], check)


def test_a_response_to_a_listed_origin_is_not_cached_for_others() -> None:
    reply = (
        app_of(CORS_ORIGINS=f"{ORIGIN},http://localhost")
        .test_client()
        .get("/health", headers={"Origin": ORIGIN})
    )
    assert (cors_of(reply), "Origin" in reply.headers["Vary"]) == ((ORIGIN, "true"), True)


def test_a_page_can_post_only_what_its_browser_asks_about_first(upstream: responses.RequestsMock) -> None:
    """These are the requests without a preflight (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).

    A reverse proxy in front may add the key, so the key does not stop such a request.
    """
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    app = app_of()
    texts = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    sent_without_asking = [None, "", *texts, "text/plain; application/json", "text/plain;charset=UTF-8"]
    paths = ["/agents/inference", "/agents/embedding", "/v1/chat/completions", "/v1/embeddings"]
    paths += ["/api/inference", "/api/embedding", "/api/v1/chat/completions"]
    origins = [ORIGIN, "null", "http://localhost"]

    def check(row: tuple[str, str | None, str]) -> None:
        path, content_type, origin = row
        headers = {**HEADERS, "Origin": origin}
        body = orjson.dumps({**CHAT, **TEXT})
        reply = app.test_client().post(path, data=body, content_type=content_type, headers=headers)
        assert reply.status_code == (400 if "/v1/" in path else 422)
        assert "Content-Type should be application/json" in reply.text
        assert not upstream.calls
        assert untouched(app)

    check_rows(product(paths, sent_without_asking, origins), check)


def test_a_page_may_post_json_and_an_agent_may_leave_out_both_headers(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))

    def check(row: tuple[str | None, dict[str, str]]) -> None:
        content_type, headers = row
        reply = app.test_client().post(
            "/agents/inference",
            data=orjson.dumps(CHAT),
            content_type=content_type,
            headers={**HEADERS, **headers},
        )
        assert (reply.status_code, reply.get_json()) == (200, "Hi")

    page = {"Origin": ORIGIN}
    kinds = ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x+json"]
    check_rows([*((kind, headers) for kind in kinds for headers in (page, {})), (None, {}), ("", {})], check)


def test_a_browser_may_read_a_refusal(app: Flask) -> None:
    def check(row: tuple[str, str, dict[str, str], int]) -> None:
        method, path, headers, status = row
        reply = app.test_client().open(path, method=method, headers={**headers, "Origin": ORIGIN})
        assert reply.status_code == status
        assert cors_of(reply) == ALLOWED

    rows: list[tuple[str, str, dict[str, str], int]] = [
        ("POST", "/agents/inference", {}, 401),
        ("GET", "/agents/nowhere", {}, 404),
        ("GET", "/agents/inference", {}, 405),
        ("POST", "/agents/inference", HEADERS, 422),
    ]
    check_rows(rows, check)


def test_a_browser_may_read_the_refusal_of_a_large_body(app: Flask) -> None:
    length = {"CONTENT_LENGTH": "99999999999"}
    headers = {**HEADERS, "Origin": ORIGIN}
    reply = app.test_client().post("/agents/inference", headers=headers, environ_overrides=length)
    assert reply.status_code == 413
    assert cors_of(reply) == ALLOWED


def test_a_browser_may_read_an_upstream_failure(app: Flask, upstream: responses.RequestsMock) -> None:
    REFUSALS["503"].arrange(upstream, CHAT_URL)
    reply = app.test_client().post("/agents/inference", json=CHAT, headers={**HEADERS, "Origin": ORIGIN})
    assert reply.status_code == 500
    assert cors_of(reply) == ALLOWED


def test_a_browser_may_read_an_internal_error(app: Flask) -> None:
    def fail() -> NoReturn:
        raise RuntimeError

    app.add_url_rule("/agents/bug", view_func=fail)
    reply = app.test_client().get("/agents/bug", headers={"Origin": ORIGIN})
    assert reply.status_code == 500
    assert cors_of(reply) == ALLOWED


def test_listed_origins_may_call() -> None:
    app = app_of(CORS_ORIGINS="https://tools.example, http://localhost:3000")

    def check(origin: str) -> None:
        assert cors_of(preflight(app, "/agents/inference", origin=origin)) == (origin, "true")

    check_rows(["https://tools.example", "http://localhost:3000"], check)


def test_other_origins_may_not_call() -> None:
    app = app_of(CORS_ORIGINS="https://tools.example,http://localhost:3000")

    def check(origin: str) -> None:
        assert cors_of(preflight(app, "/agents/inference", origin=origin)) == (None, None)
        reply = app.test_client().get("/health", headers={"Origin": origin})
        assert reply.status_code == 200
        assert cors_of(reply) == (None, None)

    rows = [
        "https://evil.example",
        "http://tools.example",
        "https://tools.example:8443",
        "https://tools.example.evil.example",
        "https://xtools.example",
        "https://toolsxexample",
        "https://sub.tools.example",
        "null",
        "*",
    ]
    check_rows(rows, check)


def test_the_operators_routes_have_no_cors_headers(app: Flask) -> None:
    def check(path: str) -> None:
        assert cors_of(preflight(app, path)) == (None, None)
        reply = app.test_client().get(path, headers={**OPERATOR, "Origin": ORIGIN})
        assert cors_of(reply) == (None, None)

    check_rows(["/admin/runs", "/admin/runs/1", "/admin/nowhere", "/ready", "/nowhere"], check)
