from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.contract_http.failures import REFUSALS
from tests.contract_http.service import CHAT, CHAT_URL, HEADERS, answer_of, app_of
from tests.support.app import OPERATOR

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

ORIGIN = "https://tools.example"
ALLOWED = (ORIGIN, "true")


def cors_of(reply: TestResponse) -> tuple[str | None, str | None]:
    """Which origin may read the answer, and whether with credentials."""
    headers = reply.headers
    return headers.get("Access-Control-Allow-Origin"), headers.get("Access-Control-Allow-Credentials")


def preflight(app: Flask, path: str, method: str = "POST", origin: str = ORIGIN) -> TestResponse:
    """Ask as a browser does: without a key."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return app.test_client().options(path, headers=headers)


@pytest.mark.parametrize("path", ["/agents/inference", "/agents/embedding", "/agents/usage", "/health"])
def test_a_preflight_needs_no_key_and_allows_the_key_to_be_sent(app: Flask, path: str) -> None:
    reply = preflight(app, path)
    assert (reply.status_code, reply.data) == (200, b"")
    assert cors_of(reply) == ALLOWED
    assert reply.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert {"GET", "POST", "OPTIONS"} <= set(reply.headers["Access-Control-Allow-Methods"].split(", "))


def test_a_preflight_passes_where_addresses_are_listed() -> None:
    assert cors_of(preflight(app_of(ALLOWED_IPS="203.0.113.9"), "/agents/inference")) == ALLOWED


def test_a_good_answer_may_be_read(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    reply = app.test_client().post("/agents/inference", json=CHAT, headers={**HEADERS, "Origin": ORIGIN})
    assert reply.status_code == 200
    assert cors_of(reply) == ALLOWED
    assert "Origin" in reply.headers["Vary"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/agents/inference", {}, 401),
        ("GET", "/agents/nowhere", {}, 404),
        ("GET", "/agents/inference", {}, 405),
        ("POST", "/agents/inference", HEADERS, 422),
    ],
)
def test_a_refusal_may_be_read(
    app: Flask, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = app.test_client().open(path, method=method, headers={**headers, "Origin": ORIGIN})
    assert reply.status_code == status
    assert cors_of(reply) == ALLOWED


def test_a_body_that_is_too_large_may_be_told_so(app: Flask) -> None:
    length = {"CONTENT_LENGTH": "99999999999"}
    headers = {**HEADERS, "Origin": ORIGIN}
    reply = app.test_client().post("/agents/inference", headers=headers, environ_overrides=length)
    assert reply.status_code == 413
    assert cors_of(reply) == ALLOWED


def test_a_failure_may_be_read(app: Flask, upstream: responses.RequestsMock) -> None:
    REFUSALS["503"].arrange(upstream, CHAT_URL)
    reply = app.test_client().post("/agents/inference", json=CHAT, headers={**HEADERS, "Origin": ORIGIN})
    assert reply.status_code == 500
    assert cors_of(reply) == ALLOWED


def test_a_bug_may_be_read(app: Flask) -> None:
    def fail() -> NoReturn:
        raise RuntimeError

    app.add_url_rule("/agents/bug", view_func=fail)
    reply = app.test_client().get("/agents/bug", headers={"Origin": ORIGIN})
    assert reply.status_code == 500
    assert cors_of(reply) == ALLOWED


@pytest.mark.parametrize("origin", ["https://tools.example", "http://localhost:3000"])
def test_origins_that_are_listed_may_call(origin: str) -> None:
    app = app_of(CORS_ORIGINS="https://tools.example, http://localhost:3000")
    assert cors_of(preflight(app, "/agents/inference", origin=origin)) == (origin, "true")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://tools.example",
        "https://tools.example:8443",
        "https://tools.example.evil.example",
        "https://xtools.example",
        "https://toolsxexample",
        "https://sub.tools.example",
        "null",
        "*",
    ],
)
def test_origins_that_are_not_listed_may_not(origin: str) -> None:
    app = app_of(CORS_ORIGINS="https://tools.example,http://localhost:3000")
    assert cors_of(preflight(app, "/agents/inference", origin=origin)) == (None, None)
    reply = app.test_client().get("/health", headers={"Origin": origin})
    assert reply.status_code == 200
    assert cors_of(reply) == (None, None)


@pytest.mark.parametrize("path", ["/admin/runs", "/admin/runs/1", "/admin/nowhere", "/ready", "/nowhere"])
def test_the_operators_routes_are_not_for_other_sites_pages(app: Flask, path: str) -> None:
    assert cors_of(preflight(app, path)) == (None, None)
    reply = app.test_client().get(path, headers={**OPERATOR, "Origin": ORIGIN})
    assert cors_of(reply) == (None, None)
