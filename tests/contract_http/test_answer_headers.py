"""X-Run-Cost-USD and X-Run-Remaining-USD on spending answers, X-Request-ID on every one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.contract_http.failures import REFUSALS, STREAMS
from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    REQUEST_ID,
    answer_of,
    app_of,
    embed,
    infer,
    usage,
)
from tests.support.app import AGENT

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

MADE_UP = re.compile(r"[0-9a-f]{32}")


def books_on(reply: TestResponse) -> tuple[str | None, str | None]:
    return reply.headers.get("X-Run-Cost-USD"), reply.headers.get("X-Run-Remaining-USD")


def test_an_inference_tells_what_its_run_has_spent_and_has_left(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert books_on(infer(app)) == ("0.000004050", "1.999995950")
    assert books_on(infer(app)) == ("0.000008100", "1.999991900")


def test_an_embedding_tells_it_too(upstream: responses.RequestsMock) -> None:
    app = app_of(EMBEDDING_PRICE_PER_SECOND="0")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[]")
    infer(app)
    assert books_on(embed(app)) == ("0.000004050", "1.999995950")


def test_a_call_that_cost_nothing_tells_it_too(app: Flask, upstream: responses.RequestsMock) -> None:
    REFUSALS["503"].arrange(upstream, CHAT_URL)
    REFUSALS["503"].arrange(upstream, EMBED_URL)
    assert books_on(infer(app)) == ("0.000000000", "2.000000000")
    assert books_on(embed(app)) == ("0.000000000", "2.000000000")


def test_a_call_that_failed_and_cost_something_tells_it_too(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    STREAMS["truncated_after_an_event"].arrange(upstream, CHAT_URL)
    assert books_on(infer(app)) == ("0.000086670", "1.999913330")


def test_an_answer_that_spends_nothing_tells_nothing(app: Flask) -> None:
    client = app.test_client()
    nothing = (None, None)
    assert books_on(usage(app)) == nothing
    assert books_on(client.get("/health")) == nothing
    assert books_on(client.post("/agents/inference", json=CHAT)) == nothing
    assert books_on(infer(app, messages=None)) == nothing
    assert books_on(infer(app, model="gpt-4")) == nothing


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "0", "x" * 128, "6f1e8f9e-1b7a-4f0e-9d25-3c61f0c3f7aa"])
def test_a_sane_request_id_is_taken(app: Flask, given: str) -> None:
    reply = app.test_client().get("/health", headers={"X-Request-ID": given})
    assert reply.headers.getlist("X-Request-ID") == [given]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="space"),
        pytest.param(" ", id="only_a_space"),
        pytest.param("x" * 129, id="one_too_long"),
        pytest.param("x" * 200, id="too_long"),
        pytest.param("Zo\xeb", id="latin_1"),
        pytest.param("\xf0\x9f\x98\x80", id="utf_8"),
        pytest.param("a\r\nSet-Cookie: b=c", id="crlf"),
        pytest.param("a\n", id="newline_at_the_end"),
        pytest.param("a,b", id="comma"),
        pytest.param("<script>", id="markup"),
        pytest.param('a" level="ERROR', id="quotes"),
        pytest.param("\x00", id="nul"),
    ],
)
def test_a_request_id_that_is_not_sane_is_replaced(app: Flask, given: str) -> None:
    reply = app.test_client().get("/health", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert MADE_UP.fullmatch(reply.headers["X-Request-ID"])


def test_a_request_without_an_id_is_given_one_of_its_own(app: Flask) -> None:
    client = app.test_client()
    ids = {client.get("/health").headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3
    assert all(MADE_UP.fullmatch(name) for name in ids)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("OPTIONS", "/agents/inference", 200),
        ("GET", "/agents/usage?run_id=1", 200),
        ("GET", "/ready", 503),
        ("GET", "/nowhere", 404),
        ("GET", "/agents/inference", 405),
        ("POST", "/agents/inference", 422),
        ("GET", "/admin/runs", 401),
    ],
)
def test_every_answer_has_the_request_id(app: Flask, method: str, path: str, status: int) -> None:
    reply = app.test_client().open(path, method=method, headers=HEADERS)
    assert reply.status_code == status
    assert reply.headers.getlist("X-Request-ID") == [REQUEST_ID]


def test_a_made_up_id_is_the_same_in_the_header_and_in_the_error(app: Flask) -> None:
    reply = app.test_client().post("/agents/inference", headers=AGENT)
    assert reply.json is not None
    assert MADE_UP.fullmatch(reply.json["request_id"])
    assert reply.json["request_id"] == reply.headers["X-Request-ID"]
