"""The budgets above the runs on the dashboard's pages. Their look in a browser: tests/browser."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger import CallRecord, Kind, LevelUsage, MemoryLedger, Run
from ridges_proxy.web.dashboard import levels as dashboard_levels
from ridges_proxy.web.dashboard import run_page
from tests.contract_http.service import (
    CAP_NANOUSD,
    MODEL,
    RUN,
    app_of,
    services_of,
)
from tests.contract_http.test_budget_shown import signed_in
from tests.support.page_text import text_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest
    from flask import Flask
    from flask.testing import FlaskClient

TOKEN_KEY = "the-secret-of-run-tokens-in-tests"
BUDGETS = [
    {"name": "all", "usd": "50", "window": "day"},
    {"name": "miner", "usd": "5", "window": "day", "group": "miner:*"},
    {"name": "ever", "usd": "20", "window": "lifetime", "model": MODEL},
]
USD = 1_000_000_000
NOON = 1_796_040_000.0
"""30 November 2026, 12:00 UTC."""


def app_with(budgets: object, ledger: MemoryLedger | None = None) -> Flask:
    """The service with these budgets, at noon."""
    app = app_of(ledger, BUDGETS=json.dumps(budgets) if budgets else "", RUN_TOKEN_KEY=TOKEN_KEY)
    services_of(app).calls.clock = lambda: NOON
    return app


def spend_in(app: Flask, run: str, nanousd: int, *groups: str, held_nanousd: int = 0) -> None:
    """Spend and hold amounts of a run, and of the budgets above it."""
    service = services_of(app)
    levels = service.calls.budgets.levels_of(groups, MODEL, "inference", NOON)
    entry = Run(run, 100 * USD, groups=groups, levels=levels)
    if held_nanousd:
        service.ledger.reserve(entry, Kind.INFERENCE, held_nanousd, held_nanousd, 60.0, None, MODEL)
    hold = service.ledger.reserve(entry, Kind.INFERENCE, nanousd, nanousd, 60.0, None, MODEL)
    service.ledger.settle(hold, nanousd, CallRecord(12_000, 5))


def rows_of(client: FlaskClient, path: str, table: str = "levels") -> list[str]:
    """The rows of a table as text."""
    page = client.get(path).text
    found = re.search(rf'<table role="table" class="{table}">.*?<tbody[^>]*>(.*?)</tbody>', page, re.DOTALL)
    return [text_of(row) for row in found[1].split("</tr>")[:-1]] if found else []


def test_the_overview_shows_the_levels_with_the_most_spent_first() -> None:
    app = app_with(BUDGETS)
    spend_in(app, "one", 4 * USD, "miner:ann", held_nanousd=USD // 2)
    spend_in(app, "other", 5 * USD, "miner:bob")
    rows = rows_of(signed_in(app), "/dashboard")
    assert [row.split("$")[0].strip() for row in rows] == [
        "all all 18 %",
        f"ever model:{MODEL} 45 %",
        "miner group:miner:bob 100 %, used up",
        "miner group:miner:ann 80 %, nearly used up",
    ]
    (ann,) = [row for row in rows if "ann" in row]
    assert ann.endswith("$0.500000 $5.000000 12 h $4.000000 $0.500000 1")
    (ever,) = [row for row in rows if "ever" in row]
    assert "never" in ever


def test_without_budgets_there_is_no_section_and_no_question_to_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_with(None)
    client = signed_in(app)
    for name in ("levels", "list_levels"):
        monkeypatch.delattr(services_of(app).ledger, name)
    for path in ("/dashboard", f"/dashboard/run?run_id={RUN}"):
        reply = client.get(path)
        shown = (">Budgets</h2>" in reply.text, "#budgets" in reply.text)
        assert (reply.status_code, *shown) == (200, False, False)


def test_a_budget_of_all_runs_is_shown_before_its_first_call() -> None:
    client = signed_in(app_with(BUDGETS))
    shown = [row.split(" %")[0] for row in rows_of(client, "/dashboard")]
    assert shown == ["all all 0", f"ever model:{MODEL} 0"]
    only_groups = signed_in(app_with(BUDGETS[1:2]))
    assert "No calls in the present periods." in only_groups.get("/dashboard").text


def test_an_amount_of_a_reload_is_shown_before_the_next_call() -> None:
    app = app_with(BUDGETS)
    spend_in(app, "one", 4 * USD)
    budgets = services_of(app).budgets
    budgets.replace([replace(budgets.all[0], amount_nanousd=5 * USD)])
    shown = [row.split(", ")[0] for row in rows_of(signed_in(app), "/dashboard")]
    assert "all all 80 %" in shown


def test_an_ended_period_is_not_shown_and_a_removed_budget_is_marked() -> None:
    ledger = MemoryLedger(1200.0)
    past = Level("all", "all", "day 2020-01-01", USD, 1_577_923_200.0)
    removed = Level("old", "all", "lifetime", USD)
    hold = ledger.reserve(Run(RUN, CAP_NANOUSD, levels=(past, removed)), Kind.INFERENCE, 7, 7, 60.0)
    ledger.settle(hold, 7)
    rows = rows_of(signed_in(app_with(BUDGETS[:1], ledger)), "/dashboard")
    assert [row.split(" %")[0] for row in rows] == ["old all; no longer in BUDGETS <1", "all all 0"]


def test_the_overview_has_a_part_of_many_levels_and_leads_to_pages_of_all() -> None:
    app = app_with(BUDGETS)
    for number in range(25):
        spend_in(app, f"run-{number}", (number + 1) * USD // 100, f"miner:{number:02d}")
    client = signed_in(app)
    overview = client.get("/dashboard").text
    assert len(rows_of(client, "/dashboard")) == dashboard_levels.OVERVIEW_LEVELS
    assert '<a href="/dashboard/budgets">All 27 budgets</a>' in overview
    page = "/dashboard/budgets?budget=miner&limit=10"
    rows = [row for offset in (0, 10, 20) for row in rows_of(client, f"{page}&offset={offset}")]
    assert [row.split()[1] for row in rows] == [f"group:miner:{number:02d}" for number in range(24, -1, -1)]
    first, last = client.get(page).text, client.get(f"{page}&offset=20").text
    assert ('rel="next"' in first, 'rel="prev"' in first) == (True, False)
    assert ('rel="next"' in last, 'rel="prev"' in last) == (False, True)
    assert "21 to 25 of 25" in last
    assert 'href="/dashboard/budgets?budget=miner&amp;limit=10&amp;offset=10#budget-table"' in first


def test_the_spent_share_is_rounded_down_and_its_state_is_said_in_words() -> None:
    def check(row: tuple[int, int, str]) -> None:
        spent, amount, text = row
        usage = LevelUsage(Level("all", "all", "lifetime", amount), inference_nanousd=spent)
        shown = dashboard_levels.LevelRow(usage, is_configured=True, resets_in_seconds=None)
        assert shown.used_text == text

    rows = [
        (0, 1000, "0 %"),
        (9, 1000, "<1 %"),
        (799, 1000, "79 %"),
        (800, 1000, "80 %, nearly used up"),
        (999, 1000, "99 %, nearly used up"),
        (1000, 1000, "100 %, used up"),
        (1500, 1000, "150 %, used up"),
        (0, 0, "100 %, used up"),
    ]
    check_rows(rows, check)


def test_an_invalid_query_of_the_budgets_is_refused() -> None:
    client = signed_in(app_with(BUDGETS))

    def check(query: str) -> None:
        assert client.get(f"/dashboard/budgets?{query}").status_code == 422

    check_rows(["offset=-1", "limit=0", "offset=10001", "surprise=1", "budget=1&budget=2"], check)
    assert client.get("/dashboard/budgets?budget=unknown").status_code == 200


def test_the_budgets_are_shown_only_to_operators() -> None:
    reply = app_with(BUDGETS).test_client().get("/dashboard/budgets")
    assert (reply.status_code, reply.headers["Location"]) == (303, "/dashboard/sign-in")


def test_a_runs_page_shows_its_levels_and_what_became_of_it() -> None:
    app = app_with(BUDGETS)
    spend_in(app, "another", USD, "miner:bob")
    spend_in(app, RUN, USD, "miner:ann", "team:red")
    services_of(app).ledger.count_refusals({RUN: {"run_busy": 1, "rate_limited": 12}})
    client, path = signed_in(app), f"/dashboard/run?run_id={RUN}"
    assert [row.split(" %")[0] for row in rows_of(client, path)] == [
        "all all 4",
        "miner group:miner:ann 20",
        f"ever model:{MODEL} 10",
    ]
    page = text_of(client.get(path).text)
    assert "Groups miner:ann, team:red First call" in page
    assert re.search(r"Last call \d\d \w{3} \d\d:\d\d:\d\d UTC Ended by nothing", page)
    assert f"{MODEL} inference 1 12,000 5 $1.000000" in page
    assert rows_of(client, path, "narrow") == ["rate_limited 12", "run_busy 1"]
    services_of(app).ledger.close(Run(RUN, CAP_NANOUSD))
    assert "Ended by closed" in text_of(client.get(path).text)


def test_a_runs_page_has_the_budgets_of_an_unknown_run_and_no_activity() -> None:
    page = signed_in(app_with(BUDGETS)).get("/dashboard/run?run_id=unknown").text
    assert "Budgets above the run" in page
    assert "Activity" not in page


def test_the_names_of_groups_and_models_are_escaped() -> None:
    app = app_with([{"name": "miner", "usd": "5", "window": "day", "group": "*"}])
    group = "<script>alert(1)</script>"
    spend_in(app, RUN, 1, group)
    services_of(app).ledger.count_refusals({RUN: {group: 1}})
    client = signed_in(app)
    for path in ("/dashboard", "/dashboard/budgets", f"/dashboard/run?run_id={RUN}"):
        page = client.get(path).text
        assert group not in page
        assert html.escape(group) in page


def test_a_runs_page_that_takes_long_is_refreshed_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(app_of())
    took_one_second = SimpleNamespace(monotonic=iter([0.0, 1.0]).__next__)
    monkeypatch.setattr(run_page, "time", took_one_second)
    assert 'hx-trigger="every 10s"' in client.get(f"/dashboard/run?run_id={RUN}").text
