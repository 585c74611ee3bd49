"""`GET /v1/usage`: the amounts of the run that the run token, the header or the query names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contract_http.openai_api import WHOLE, chat, envelope
from tests.contract_http.service import (
    CHAT_URL,
    HEADERS,
    MODEL,
    RUN,
    app_of,
    hold_of,
    seen,
    services_of,
    untouched,
)
from tests.contract_http.service import usage as agents_usage
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask

KEY = "the-secret-of-run-tokens-in-tests"


def usage(app: Flask, query: str = "", **headers: str) -> tuple[int, Any]:
    return seen(app.test_client().get(f"/v1/usage{query}", headers=HEADERS | headers))


def test_the_run_is_named_by_the_header_or_the_query(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    chat(app)
    hold_of(app, 5_000)
    expected = {
        "run_id": RUN,
        "max_cost_usd": 2.0,
        "used_cost_usd": 0.00000405,
        "held_cost_usd": 0.000005,
        "remaining_cost_usd": 1.99999095,
        "inference_cost_usd": 0.00000405,
        "embedding_cost_usd": 0.0,
        "calls": 1,
        "budgets": [],
    }
    cost = {"model": MODEL, "kind": "inference", "calls": 1, "cost_usd": 0.00000405}
    tokens = {"prompt_tokens": 10, "completion_tokens": 5}
    own = {**expected, **tokens, "costs": [{**cost, **tokens}]}
    assert usage(app, **{"X-Run-Id": RUN}) == (200, own)
    assert usage(app, f"?run_id={RUN}&api-version=1", **{"X-Run-Id": RUN}) == (200, own)
    assert seen(agents_usage(app)) == (200, expected)


def test_a_run_token_names_its_run_and_has_its_budget() -> None:
    app = app_of(RUN_TOKEN_KEY=KEY, REQUIRE_RUN_TOKENS="1")
    token, _ = services_of(app).run_tokens.issue("agent-7", 600, budget_usd="0.5")
    bearer = {"Authorization": f"Bearer {token}"}
    status, body = usage(app, **bearer)
    assert (status, body["run_id"], body["max_cost_usd"]) == (200, "agent-7", 0.5)
    message = "The run token is for another run: name the run of the token, or no run at all"
    expected = envelope("run_not_allowed", "permission_error", message)
    assert usage(app, **bearer, **{"X-Run-Id": RUN}) == (403, expected)
    assert usage(app, **{"X-Run-Id": RUN})[0] == 401


def test_a_run_without_calls_has_its_whole_budget_and_is_not_created(app: Flask) -> None:
    status, body = usage(app, **{"X-Run-Id": RUN})
    assert (status, body["remaining_cost_usd"], body["calls"]) == (200, 2.0, 0)
    assert (body["prompt_tokens"], body["completion_tokens"], body["costs"]) == (0, 0, [])
    assert untouched(app)


def test_a_request_that_names_no_valid_run_is_a_400_that_says_how(app: Flask) -> None:
    def check(row: tuple[str, str]) -> None:
        query, message = row
        expected = envelope("invalid_request", "invalid_request_error", message, "run_id")
        assert usage(app, query) == (400, expected)

    missing = "run_id: Field required; the header X-Run-Id or a run token can name the run, too"
    rows = [
        ("", missing),
        ("?run=1", missing),
        ("?run_id=", "run_id: String should have at least 1 character"),
        ("?run_id=1&run_id=2", "run_id: Input is not one of the values allowed here"),
    ]
    check_rows(rows, check)
