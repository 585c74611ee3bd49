"""The budget that is shown is the one that limits the run's next call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    HEADERS,
    RUN,
    answer_of,
    app_of,
    hold_of,
    infer,
    memory,
    services_of,
    spend,
    usage,
)
from tests.support.app import ADMIN_KEY, OPERATOR
from tests.support.page_text import text_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from flask.testing import FlaskClient
    from requests import PreparedRequest

    from ridges_proxy.ledger import MemoryLedger

TOKEN_KEY = "the-secret-of-run-tokens-in-tests"


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger in which the run has spent 1 USD of 2."""
    ledger = memory()
    spend(app_of(ledger), CAP_NANOUSD // 2)
    return ledger


def reloaded(ledger: MemoryLedger, budget: str) -> Flask:
    """The service after a reload with another MAX_COST_PER_RUN, on the same ledger."""
    return app_of(ledger, MAX_COST_PER_RUN=budget, RUN_TOKEN_KEY=TOKEN_KEY)


def token_of(app: Flask, **limits: Any) -> dict[str, str]:  # noqa: ANN401 - as `issue` takes them
    return {"Authorization": f"Bearer {services_of(app).run_tokens.issue(RUN, 600, **limits)[0]}"}


def signed_in(app: Flask) -> FlaskClient:
    client = app.test_client()
    page = client.get("/dashboard/sign-in").text
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    assert (
        client.post("/dashboard/sign-in", data={"key": ADMIN_KEY, "csrf_token": found[1]}).status_code == 303
    )
    return client


def shown_on(app: Flask) -> dict[str, tuple[float, float]]:
    """The budget and the remaining amount in each place, in USD."""
    operator = app.test_client()
    listed = operator.get("/admin/runs", headers=OPERATOR).get_json()["runs"]
    documents = {
        "/agents/usage": usage(app).get_json(),
        "/admin/runs": listed[0],
        "/admin/runs/RUN": operator.get(f"/admin/runs/{RUN}", headers=OPERATOR).get_json(),
    }
    shown = {
        where: (document["max_cost_usd"], document["remaining_cost_usd"])
        for where, document in documents.items()
    }
    dashboard = signed_in(app)
    overview, page = dashboard.get("/dashboard").text, dashboard.get(f"/dashboard/run?run_id={RUN}").text
    budget, remaining = shown["/agents/usage"]
    assert f"of ${budget:,.6f}" in text_of(page)
    assert f"${remaining:,.6f}" in text_of(page)
    assert f'of ${budget:,.2f}"' in overview  # the description of the bar
    assert f"${remaining:,.6f}" in text_of(overview)
    return shown


def test_after_a_reload_every_place_shows_the_new_budget(ledger: MemoryLedger) -> None:
    def check(row: tuple[str, float, float]) -> None:
        budget, max_cost, remaining = row
        shown = shown_on(reloaded(ledger, budget))
        assert set(shown.values()) == {(max_cost, remaining)}, shown

    check_rows([("1.25", 1.25, 0.25), ("0.5", 0.5, 0.0), ("5", 5.0, 4.0)], check)


def test_a_run_with_a_token_has_the_budget_of_its_token_in_every_place(
    ledger: MemoryLedger, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    app = reloaded(ledger, "1.5")
    infer(app, token_of(app, budget_usd="3"))
    assert {budget for budget, _ in shown_on(reloaded(ledger, "1.25")).values()} == {3.0}
    infer(app, token_of(app))  # a token without a budget
    assert {budget for budget, _ in shown_on(reloaded(ledger, "1.25")).values()} == {1.25}


def test_a_call_that_is_refused_replaces_the_budget_too(ledger: MemoryLedger) -> None:
    app = reloaded(ledger, "5")
    assert "error" in infer(app, token_of(app, budget_usd="0.9")).get_json()
    assert set(shown_on(app).values()) == {(0.9, 0.0)}


def test_the_header_shows_what_remains_of_the_callers_budget(
    ledger: MemoryLedger, upstream: responses.RequestsMock
) -> None:
    """Even if another call of the run has another budget in the meantime."""
    app = reloaded(ledger, "5")

    def reserve_by_key(_request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        hold_of(app, 1_000)
        return 200, {}, answer_of("Hi")

    upstream.add_callback("POST", CHAT_URL, reserve_by_key)
    reply = infer(app, {**HEADERS, **token_of(app, budget_usd="1.5")})
    assert reply.headers["X-Run-Remaining-USD"] == f"{0.5 - (4_050 + 1_000) / 1e9:.9f}"
