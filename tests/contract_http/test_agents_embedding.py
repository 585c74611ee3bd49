from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event

from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS, Failure
from tests.contract_http.service import (
    CAP_NANOUSD,
    EMBED_URL,
    EMBEDDING_FAILED,
    app_of,
    embed,
    envelope,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more embeddings or inference from this agent version."
}
SMALLEST_NANOUSD = 100_000
"""The cost of one second at the default price."""


def test_the_embedding_is_the_upstreams_json_byte_for_byte(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, bytes]) -> None:
        _, body = row
        upstream.reset()
        upstream.post(EMBED_URL, body=body, content_type="text/plain")
        reply = embed(app_of())
        assert reply.status_code == 200
        assert reply.data == body
        assert reply.content_type == "application/json"

    rows = {
        "spaces_and_digits": b"[[0.10,  -2.50e-05, 1]]\n",
        "order_and_duplicates": b'{"b": 1, "a": 2, "b": 3}',
        "empty_list": b"[]",
        "null": b"null",
        "too_long_an_input": (
            b'{"error":"Input validation error: `inputs` must have less than 512 tokens. Given: 600",'
            b'"error_type":"Validation"}'
        ),
    }
    check_rows(rows.items(), check)


def test_the_upstream_request_has_the_text_only(upstream: responses.RequestsMock) -> None:
    def check(text: str) -> None:
        upstream.reset()
        upstream.post(EMBED_URL, body=b"[]")
        embed(app_of(), input=text, model="x", temperature="x", truncate=True)
        assert sent(upstream) == {"inputs": text}

    check_rows(["Hello", "", "a\x00\n\u2028\U0001f600"], check)


def test_every_failure_of_the_upstream_is_a_500_with_the_guides_text_and_a_code(
    upstream: responses.RequestsMock,
) -> None:
    def check(row: tuple[str, Failure]) -> None:
        name, failure = row
        app = app_of()
        upstream.reset()
        failure.arrange(upstream, EMBED_URL)
        reply = embed(app)
        assert seen(reply) == (500, envelope(EMBEDDING_FAILED, failure.code))
        assert "Retry-After" not in reply.headers
        assert services_of(app).admission.in_flight == 0
        assert name not in REFUSALS or spent_nanousd(app) == 0, "a refused call costs nothing"

    check_rows({**REFUSALS, **EXCEPTIONS, **NOT_JSON}.items(), check)


def test_an_upstream_that_cannot_be_reached_is_a_500_and_costs_nothing(
    refusing_url: str,
) -> None:
    app = app_of(CHUTES_EMBEDDING_URL=refusing_url)
    assert seen(embed(app)) == (500, envelope(EMBEDDING_FAILED, "upstream_unreachable"))
    assert spent_nanousd(app) == 0


def test_an_exhausted_budget_gets_the_guides_text_and_nothing_is_sent(
    upstream: responses.RequestsMock,
) -> None:
    def check(remaining_nanousd: int) -> None:
        app = app_of()
        spend(app, CAP_NANOUSD - remaining_nanousd)
        assert seen(embed(app)) == (200, EXHAUSTED)
        assert len(upstream.calls) == 0

    check_rows([0, SMALLEST_NANOUSD - 1], check)


def test_a_budget_for_one_second_is_enough(app: Flask, upstream: responses.RequestsMock) -> None:
    spend(app, CAP_NANOUSD - SMALLEST_NANOUSD)
    upstream.post(EMBED_URL, body=b"[]")
    assert seen(embed(app)) == (200, [])


def test_a_call_past_its_deadline_is_a_500_and_costs_its_full_hold(
    upstream: responses.RequestsMock,
) -> None:
    def never(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        Event().wait()
        raise AssertionError

    app = app_of(EMBEDDING_DEADLINE_SECONDS="0.1")
    upstream.add_callback("POST", EMBED_URL, never)
    assert seen(embed(app)) == (500, envelope(EMBEDDING_FAILED, "upstream_timeout"))
    assert spent_nanousd(app) == 10_000
