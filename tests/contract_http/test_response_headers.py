"""X-Run-Cost-USD and X-Run-Remaining-USD on responses to calls, X-Request-ID on every response."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.contract_http.failures import REFUSALS, STREAMS
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    REQUEST_ID,
    RUN,
    TEXT,
    answer_of,
    app_of,
    embed,
    infer,
    spend,
    usage,
)
from tests.support.app import AGENT
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

GENERATED_ID = re.compile(r"[0-9a-f]{32}")


def amounts_of(reply: TestResponse) -> tuple[str | None, str | None]:
    return reply.headers.get("X-Run-Cost-USD"), reply.headers.get("X-Run-Remaining-USD")


def test_an_inference_has_the_spent_and_the_remaining_amount(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    assert amounts_of(infer(app)) == ("0.000004050", "1.999995950")
    assert amounts_of(infer(app)) == ("0.000008100", "1.999991900")


def test_an_embedding_has_both_amounts_too(upstream: responses.RequestsMock) -> None:
    app = app_of(EMBEDDING_PRICE_PER_SECOND="0")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[]")
    infer(app)
    assert amounts_of(embed(app)) == ("0.000004050", "1.999995950")


def test_a_call_that_cost_nothing_has_both_amounts_too(app: Flask, upstream: responses.RequestsMock) -> None:
    REFUSALS["503"].arrange(upstream, CHAT_URL)
    REFUSALS["503"].arrange(upstream, EMBED_URL)
    assert amounts_of(infer(app)) == ("0.000000000", "2.000000000")
    assert amounts_of(embed(app)) == ("0.000000000", "2.000000000")


@pytest.mark.usefixtures("no_pauses")
def test_a_failed_call_that_cost_something_has_both_amounts_too(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    STREAMS["truncated_after_an_event"].arrange(upstream, CHAT_URL)
    assert amounts_of(infer(app)) == ("0.000086670", "1.999913330")


def test_a_call_that_the_budget_does_not_pay_for_has_both_amounts_too(app: Flask) -> None:
    spend(app, CAP_NANOUSD - 5)
    later = {"evaluation_run_id": RUN, "messages": CHAT["messages"]}
    rows: list[tuple[str, Mapping[str, object], int]] = [
        ("/agents/inference", CHAT, 200),
        ("/v1/chat/completions", CHAT, 402),
        ("/v1/chat/completions", {**CHAT, "stream": True}, 402),
        ("/v1/responses", {"run_id": RUN, "input": "Hello"}, 402),
        ("/api/v1/chat/completions", CHAT, 402),
        ("/api/inference", later, 429),
        ("/api/embedding", TEXT, 429),
    ]

    def check(row: tuple[str, Mapping[str, object], int]) -> None:
        path, body, status = row
        reply = app.test_client().post(path, json=body, headers=HEADERS)
        assert (reply.status_code, amounts_of(reply)) == (status, ("1.999999995", "0.000000005"))

    check_rows(rows, check)


def test_a_response_without_a_settled_call_has_no_amounts(app: Flask) -> None:
    client = app.test_client()
    nothing = (None, None)
    assert amounts_of(usage(app)) == nothing
    assert amounts_of(client.get("/health")) == nothing
    assert amounts_of(client.post("/agents/inference", json=CHAT)) == nothing
    assert amounts_of(infer(app, messages=None)) == nothing
    assert amounts_of(infer(app, model="gpt-4")) == nothing


def test_a_valid_request_id_is_used(app: Flask) -> None:
    def check(given: str) -> None:
        reply = app.test_client().get("/health", headers={"X-Request-ID": given})
        assert reply.headers.getlist("X-Request-ID") == [given]

    check_rows(["a", "A-b_c.9", "0", "x" * 128, "6f1e8f9e-1b7a-4f0e-9d25-3c61f0c3f7aa"], check)


def test_an_invalid_request_id_is_replaced(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        _, given = row
        reply = app.test_client().get("/health", environ_overrides={"HTTP_X_REQUEST_ID": given})
        assert GENERATED_ID.fullmatch(reply.headers["X-Request-ID"])

    rows = {
        "empty": "",
        "space": "a b",
        "only_a_space": " ",
        "one_too_long": "x" * 129,
        "too_long": "x" * 200,
        "latin_1": "Zo\xeb",
        "utf_8": "\xf0\x9f\x98\x80",
        "crlf": "a\r\nSet-Cookie: b=c",
        "newline_at_the_end": "a\n",
        "comma": "a,b",
        "markup": "<script>",
        "quotes": 'a" level="ERROR',
        "nul": "\x00",
    }
    check_rows(rows.items(), check)


def test_a_request_without_an_id_gets_a_unique_one(app: Flask) -> None:
    client = app.test_client()
    ids = {client.get("/health").headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3
    assert all(GENERATED_ID.fullmatch(name) for name in ids)


def test_every_response_has_the_request_id(app: Flask) -> None:
    def check(row: tuple[str, str, int]) -> None:
        method, path, status = row
        reply = app.test_client().open(path, method=method, headers=HEADERS)
        assert reply.status_code == status
        assert reply.headers.getlist("X-Request-ID") == [REQUEST_ID]

    rows = [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("OPTIONS", "/agents/inference", 200),
        ("GET", "/agents/usage?run_id=1", 200),
        ("GET", "/ready", 503),
        ("GET", "/nowhere", 404),
        ("GET", "/agents/inference", 405),
        ("POST", "/agents/inference", 422),
        ("GET", "/admin/runs", 401),
    ]
    check_rows(rows, check)


def test_a_generated_id_is_the_same_in_the_header_and_in_the_error(app: Flask) -> None:
    reply = app.test_client().post("/agents/inference", headers=AGENT)
    assert reply.json is not None
    assert GENERATED_ID.fullmatch(reply.json["request_id"])
    assert reply.json["request_id"] == reply.headers["X-Request-ID"]
