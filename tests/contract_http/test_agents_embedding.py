from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gevent.event import Event

from tests.contract_http.failures import EXCEPTIONS, NOT_JSON, REFUSALS, Failure, each
from tests.contract_http.service import (
    CAP_NANOUSD,
    EMBED_URL,
    EMBEDDING_FAILED,
    app_of,
    embed,
    envelope,
    hold_of,
    seen,
    sent,
    services_of,
    spend,
    spent_nanousd,
)

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more embeddings or inference from this agent version."
}
SMALLEST_NANOUSD = 100_000
"""A second at the default price."""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[[0.10,  -2.50e-05, 1]]\n", id="spaces_and_digits"),
        pytest.param(b'{"b": 1, "a": 2, "b": 3}', id="order_and_duplicates"),
        pytest.param(b"[]", id="empty_list"),
        pytest.param(b"null", id="null"),
        pytest.param(
            b'{"error":"Input validation error: `inputs` must have less than 512 tokens. Given: 600",'
            b'"error_type":"Validation"}',
            id="too_long_an_input",
        ),
    ],
)
def test_the_embedding_is_the_upstreams_json_byte_for_byte(
    app: Flask, upstream: responses.RequestsMock, body: bytes
) -> None:
    upstream.post(EMBED_URL, body=body, content_type="text/plain")
    reply = embed(app)
    assert reply.status_code == 200
    assert reply.data == body
    assert reply.content_type == "application/json"


@pytest.mark.parametrize("text", ["Hello", "", "a\x00\n\u2028\U0001f600"])
def test_the_upstream_is_asked_for_the_text_alone(
    app: Flask, upstream: responses.RequestsMock, text: str
) -> None:
    upstream.post(EMBED_URL, body=b"[]")
    embed(app, input=text, model="x", temperature="x", truncate=True)
    assert sent(upstream) == {"inputs": text}


@pytest.mark.parametrize("failure", each(REFUSALS, EXCEPTIONS, NOT_JSON))
def test_every_failure_of_the_upstream_is_a_500_in_the_guides_words_with_a_code(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, EMBED_URL)
    reply = embed(app)
    assert seen(reply) == (500, envelope(EMBEDDING_FAILED, failure.code))
    assert "Retry-After" not in reply.headers
    assert services_of(app).admission.in_flight == 0


@pytest.mark.parametrize("failure", each(REFUSALS))
def test_a_call_that_the_upstream_refused_costs_nothing(
    app: Flask, upstream: responses.RequestsMock, failure: Failure
) -> None:
    failure.arrange(upstream, EMBED_URL)
    embed(app)
    assert spent_nanousd(app) == 0


def test_an_upstream_that_cannot_be_reached_is_a_500_and_costs_nothing(
    refusing_url: str,
) -> None:
    app = app_of(CHUTES_EMBEDDING_URL=refusing_url)
    assert seen(embed(app)) == (500, envelope(EMBEDDING_FAILED, "upstream_unreachable"))
    assert spent_nanousd(app) == 0


@pytest.mark.parametrize("left_nanousd", [0, SMALLEST_NANOUSD - 1])
def test_an_exhausted_budget_is_told_in_the_guides_words_and_nothing_is_sent(
    app: Flask, upstream: responses.RequestsMock, left_nanousd: int
) -> None:
    spend(app, CAP_NANOUSD - left_nanousd)
    assert seen(embed(app)) == (200, EXHAUSTED)
    assert len(upstream.calls) == 0


def test_a_budget_for_one_second_is_spent_on_it(app: Flask, upstream: responses.RequestsMock) -> None:
    spend(app, CAP_NANOUSD - SMALLEST_NANOUSD)
    upstream.post(EMBED_URL, body=b"[]")
    assert seen(embed(app)) == (200, [])


def test_a_budget_held_by_calls_in_flight_is_to_be_asked_for_again(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    hold_of(app, CAP_NANOUSD)
    reply = embed(app)
    detail = "The run's budget is held by its calls in flight"
    assert seen(reply) == (429, envelope(detail, "budget_held"))
    assert reply.headers["Retry-After"] == "2"
    assert len(upstream.calls) == 0


def test_a_call_past_its_deadline_is_a_500_and_costs_its_whole_hold(
    upstream: responses.RequestsMock,
) -> None:
    def never(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        Event().wait()
        raise AssertionError

    app = app_of(EMBEDDING_DEADLINE_SECONDS="0.1")
    upstream.add_callback("POST", EMBED_URL, never)
    assert seen(embed(app)) == (500, envelope(EMBEDDING_FAILED, "upstream_timeout"))
    assert spent_nanousd(app) == 10_000
