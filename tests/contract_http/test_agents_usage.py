from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.failures import STREAMS
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    HELLO_TOKENS,
    NANOUSD_PER_TOKEN,
    RUN,
    answer_of,
    app_of,
    delta,
    embed,
    envelope,
    hold_of,
    infer,
    problem,
    seen,
    spend,
    sse,
    untouched,
    usage,
)
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from requests import PreparedRequest

UNKNOWN_RUN = {
    "run_id": RUN,
    "max_cost_usd": 2.0,
    "used_cost_usd": 0.0,
    "held_cost_usd": 0.0,
    "remaining_cost_usd": 2.0,
    "inference_cost_usd": 0.0,
    "embedding_cost_usd": 0.0,
    "calls": 0,
    "budgets": [],
}


def test_a_run_without_calls_has_zeros_and_a_request_does_not_create_it(app: Flask) -> None:
    assert seen(usage(app)) == (200, UNKNOWN_RUN)
    assert untouched(app)


def test_the_budget_is_that_of_the_settings() -> None:
    reply = usage(app_of(MAX_COST_PER_RUN="0.5"))
    assert seen(reply) == (200, {**UNKNOWN_RUN, "max_cost_usd": 0.5, "remaining_cost_usd": 0.5})


def test_an_inference_is_charged_for_the_tokens_that_the_upstream_reports(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    infer(app)
    infer(app)
    assert seen(usage(app)) == (
        200,
        {
            **UNKNOWN_RUN,
            "used_cost_usd": 0.0000081,
            "remaining_cost_usd": 1.9999919,
            "inference_cost_usd": 0.0000081,
            "calls": 2,
            "budgets": [],
        },
    )


def test_an_inference_without_usage_is_charged_at_the_bound_of_its_bytes(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=sse(delta("Hello"), delta("!", finish_reason="stop")))
    infer(app)
    used = (HELLO_TOKENS + 6) * NANOUSD_PER_TOKEN / 1e9
    assert seen(usage(app))[1]["used_cost_usd"] == used


def test_an_embedding_is_charged_for_its_time_beside_the_inferences(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("ridges_proxy.upstream.attempt.time", SimpleNamespace(monotonic=clock))

    def slow(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        clock.advance(0.25)
        return 200, {}, b"[]"

    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.add_callback("POST", EMBED_URL, slow)
    infer(app)
    embed(app)
    assert seen(usage(app)) == (
        200,
        {
            **UNKNOWN_RUN,
            "used_cost_usd": 0.00002905,
            "remaining_cost_usd": 1.99997095,
            "inference_cost_usd": 0.00000405,
            "embedding_cost_usd": 0.000025,
            "calls": 2,
            "budgets": [],
        },
    )


def test_a_call_in_flight_is_held_at_its_maximum_cost(app: Flask, upstream: responses.RequestsMock) -> None:
    meanwhile: list[Any] = []

    def ask_usage(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        meanwhile.append(usage(app).json)
        return 200, {}, answer_of("Hi")

    upstream.add_callback("POST", CHAT_URL, ask_usage)
    infer(app)
    held_nanousd = (HELLO_TOKENS + 1024) * NANOUSD_PER_TOKEN
    assert meanwhile == [
        {
            **UNKNOWN_RUN,
            "held_cost_usd": held_nanousd / 1e9,
            "remaining_cost_usd": (CAP_NANOUSD - held_nanousd) / 1e9,
        }
    ]


@pytest.mark.usefixtures("no_pauses")
def test_a_failed_call_is_charged_at_the_bound_of_what_was_seen(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    STREAMS["truncated_after_an_event"].arrange(upstream, CHAT_URL)
    infer(app)
    used_nanousd = (HELLO_TOKENS + len("Half an answer")) * NANOUSD_PER_TOKEN
    assert seen(usage(app)) == (
        200,
        {
            **UNKNOWN_RUN,
            "used_cost_usd": used_nanousd / 1e9,
            "remaining_cost_usd": (CAP_NANOUSD - used_nanousd) / 1e9,
            "inference_cost_usd": used_nanousd / 1e9,
            "calls": 1,
            "budgets": [],
        },
    )


def test_a_runs_usage_does_not_include_other_runs(app: Flask) -> None:
    spend(app, 1)
    hold_of(app, 1)
    assert seen(usage(app, "another")) == (200, {**UNKNOWN_RUN, "run_id": "another"})


def test_a_run_id_may_have_any_printable_characters(app: Flask) -> None:
    def check(run_id: str) -> None:
        assert seen(usage(app, run_id)) == (200, {**UNKNOWN_RUN, "run_id": run_id})

    check_rows(["1", "a/b c", "Zoë", "\U0001f600", '"', "x" * 256, "../x", "%2F"], check)


def test_unknown_parameters_are_ignored(app: Flask) -> None:
    reply = app.test_client().get(f"/agents/usage?run_id={RUN}&limit=1", headers=HEADERS)
    assert seen(reply) == (200, UNKNOWN_RUN)


def test_an_invalid_run_id_is_named_in_the_query(app: Flask) -> None:
    def check(row: tuple[str, str, str]) -> None:
        query, msg, kind = row
        reply = app.test_client().get(f"/agents/usage{query}", headers=HEADERS)
        expected = envelope([problem(["query", "run_id"], msg, kind)], "invalid_request")
        assert seen(reply) == (422, expected)
        assert reply.content_type == "application/json"

    rows = [
        ("", "Field required", "missing"),
        ("?run=1", "Field required", "missing"),
        ("?run_id=", "String should have at least 1 character", "string_too_short"),
        (f"?run_id={'x' * 257}", "String should have at most 256 characters", "string_too_long"),
        ("?run_id=a%0Ab", "String should have no control characters", "string_pattern_mismatch"),
    ]
    check_rows(rows, check)
