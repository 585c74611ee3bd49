"""`/admin/budgets`, on a ledger in memory and on one in a file."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy import create_app
from ridges_proxy.billing.budgets import Budget
from ridges_proxy.billing.levels import Level
from ridges_proxy.config.digests import digests_of
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.ledger import Kind, Ledger, MemoryLedger, Run, SetAmount, SqliteLedger
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.web.budget_actions import KnownBudget
from tests.support.app import ADMIN_KEY, AGENT, OPERATOR, settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask
    from werkzeug.test import TestResponse

BUDGETS = [
    {"name": "all", "usd": "0.001", "window": "day"},
    {"name": "miner", "usd": 5, "window": "lifetime", "group": "miner:*", "kind": "inference"},
    {"name": "red", "usd": 1, "window": "month", "zone": "Asia/Tokyo", "group": "team:red"},
]
MINER_1, MINER_2 = "group:miner:1 kind:inference", "group:miner:2 kind:inference"


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return MemoryLedger(60.0) if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db", 60.0)


@pytest.fixture
def app(ledger: Ledger) -> Flask:
    return create_app(settings_of(BUDGETS=json.dumps(BUDGETS)), ledger)


def ask(app: Flask, method: str, path: str = "", body: object = None) -> TestResponse:
    data = None if body is None else json.dumps(body)
    return app.test_client().open(f"/admin/budgets{path}", method=method, headers=OPERATOR, data=data)


def got(app: Flask, path: str = "") -> dict[str, Any]:
    reply = ask(app, "GET", path)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.get_json()
    return found


def posted(app: Flask, path: str, body: object = None) -> dict[str, Any]:
    reply = ask(app, "POST", path, body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.get_json()
    return found


def spend(app: Flask, nanousd: int, *groups: str, held: int = 0) -> None:
    """Settle a call of a run with these groups, and leave another one open."""
    services = app.extensions[EXTENSION]
    levels = services.budgets.levels_of(groups, "any", "inference", time.time())
    run = Run("run", 10**9, groups=groups, levels=levels)
    ledger: Ledger = services.ledger
    ledger.settle(ledger.reserve(run, Kind.INFERENCE, nanousd, nanousd, 60.0), nanousd)
    if held:
        ledger.reserve(run, Kind.INFERENCE, held, held, 60.0)


def spent(app: Flask, query: str = "") -> dict[tuple[str, str], float]:
    """Nano-USD spent by budget and scope."""
    levels = got(app, query)["levels"]
    return {(each["budget"], each["scope"]): round(each["used_cost_usd"] * 10**9) for each in levels}


# --- shown


def test_the_list_has_all_budgets_and_their_levels_with_the_most_spent_first(app: Flask) -> None:
    spend(app, 700, "miner:1", held=50)
    spend(app, 200, "miner:2")

    page = got(app)

    assert [budget["name"] for budget in page["budgets"]] == ["all", "miner", "red"]
    assert page["budgets"][1] == {
        "name": "miner",
        "usd": 5.0,
        "usd_in_force": 5.0,
        "set_amounts": [],
        "window": "lifetime",
        "zone": "UTC",
        "group": "miner:*",
        "model": None,
        "kind": "inference",
        "match": "group:miner:* kind:inference",
        "period": "lifetime",
        "resets_at": None,
    }
    assert page["budgets"][0]["resets_at"] > page["budgets"][0]["period"].removeprefix("day ")
    assert [(level["budget"], level["scope"]) for level in page["levels"]] == [
        ("all", "all"),
        ("miner", MINER_1),
        ("miner", MINER_2),
    ]
    assert page["levels"][1] == {
        "budget": "miner",
        "scope": MINER_1,
        "window": "lifetime",
        "period": "lifetime",
        "resets_at": None,
        "max_cost_usd": 5.0,
        "used_cost_usd": 700e-9,
        "held_cost_usd": 50e-9,
        "remaining_cost_usd": 4.99999925,
        "calls": 1,
        "in_flight": 1,
    }
    assert (page["total"], page["offset"], page["limit"]) == (3, 0, 100)


def test_a_query_selects_levels_by_budget_and_scope_and_by_page(app: Flask) -> None:
    spend(app, 7, "miner:1")
    spend(app, 2, "miner:2")
    rows: list[tuple[str, list[str], int]] = [
        ("?budget=miner", [MINER_1, MINER_2], 2),
        ("?scope=miner:2", [MINER_2], 1),
        ("?budget=all&scope=miner", [], 0),
        ("?budget=other", [], 0),
        ("?limit=1&offset=1", [MINER_1], 3),
        ("/miner", [MINER_1, MINER_2], 2),
        ("/miner?scope=2&limit=1", [MINER_2], 1),
        ("/red", [], 0),
    ]

    def check(row: tuple[str, list[str], int]) -> None:
        query, scopes, total = row
        page = got(app, query)
        assert ([level["scope"] for level in page["levels"]], page["total"]) == (scopes, total)

    check_rows(rows, check)
    assert [budget["name"] for budget in got(app, "?budget=miner")["budgets"]] == ["miner"]
    assert got(app, "/red")["match"] == "group:team:red"


def test_periods_that_have_ended_are_shown_on_request(app: Flask, ledger: Ledger) -> None:
    ended = Level("all", "all", "day 2020-01-01", 5, time.time() - 60)
    run = Run("run", 100, levels=(ended,))
    ledger.settle(ledger.reserve(run, Kind.INFERENCE, 3, 3, 60.0), 3)

    assert got(app)["levels"] == got(app, "?ended=0")["levels"] == []
    (level,) = got(app, "/all?ended=1")["levels"]
    assert (level["period"], level["max_cost_usd"]) == ("day 2020-01-01", 5e-9)


def test_a_reloaded_amount_is_shown_before_the_next_call(app: Flask) -> None:
    spend(app, 700)
    budgets = app.extensions[EXTENSION].budgets
    budgets.replace([replace(budgets.all[0], amount_nanousd=900)])

    (level,) = got(app)["levels"]

    assert (level["max_cost_usd"], level["remaining_cost_usd"]) == (900e-9, 200e-9)


def test_the_digest_of_the_settings_is_that_of_the_budgets_in_force(app: Flask) -> None:
    def digest() -> str:
        reply = app.test_client().get("/admin/settings", headers=OPERATOR)
        found: str = reply.get_json()["settings"]["BUDGETS"]
        return found

    before = digest()
    budgets = app.extensions[EXTENSION].budgets
    budgets.replace(budgets.all[:1])

    expected = digests_of(settings_of(BUDGETS=json.dumps(BUDGETS[:1])), ADMIN_KEY)["BUDGETS"]
    assert digest() == expected != before


# --- amounts


def test_an_amount_is_in_force_at_once_until_it_is_removed(app: Flask) -> None:
    spend(app, 700)
    after = posted(app, "/all/amount", {"usd": "0.0000007"})
    assert (after["usd"], after["usd_in_force"]) == (0.001, 700e-9)
    assert after["set_amounts"] == [{"scope": None, "usd": 700e-9}]
    assert got(app)["levels"][0]["max_cost_usd"] == 700e-9
    with pytest.raises(BudgetExhaustedError):
        spend(app, 1)

    after = posted(app, "/all/amount", {"usd": None})

    assert (after["usd_in_force"], after["set_amounts"]) == (0.001, [])
    spend(app, 1)


def test_the_amount_of_a_group_or_a_scope_precedes_that_of_the_budget(app: Flask) -> None:
    for group in ("miner:1", "miner:2", "miner:3"):
        spend(app, 1, group)
    posted(app, "/miner/amount", {"usd": 3})
    posted(app, "/miner/amount", {"usd": 7.5, "group": "miner:1"})
    after = posted(app, "/miner/amount", {"usd": 0, "scope": MINER_2})

    assert after["set_amounts"] == [
        {"scope": None, "usd": 3.0},
        {"scope": MINER_1, "usd": 7.5},
        {"scope": MINER_2, "usd": 0.0},
    ]
    amounts = {level["scope"]: level["max_cost_usd"] for level in got(app, "/miner")["levels"]}
    assert amounts == {MINER_1: 7.5, MINER_2: 0.0, "group:miner:3 kind:inference": 3.0}
    with pytest.raises(BudgetExhaustedError):
        spend(app, 1, "miner:2")
    posted(app, "/miner/amount", {"usd": None, "group": "miner:2"})
    spend(app, 1, "miner:2")


def test_an_amount_of_a_budget_that_is_gone_is_listed_and_can_only_be_removed(app: Flask) -> None:
    posted(app, "/miner/amount", {"usd": 7, "group": "miner:1"})
    app.extensions[EXTENSION].budgets.replace([Budget("all", 10**6, "day")])

    gone = got(app)["budgets"][1]
    assert (gone["name"], gone["usd"], gone["window"]) == ("miner", None, None)
    assert gone["set_amounts"] == [{"scope": MINER_1, "usd": 7.0}]
    assert ask(app, "POST", "/miner/amount", {"usd": 8, "scope": MINER_1}).status_code == 404
    refused = ask(app, "POST", "/miner/amount", {"usd": None, "scope": MINER_2})
    assert (refused.status_code, refused.get_json()["detail"][0]["msg"]) == (422, "No amount is set for it")
    after = posted(app, "/miner/amount", {"usd": None, "scope": MINER_1})
    assert (after["usd_in_force"], after["set_amounts"]) == (None, [])
    assert ask(app, "GET", "/miner").status_code == 404


def test_the_set_amounts_are_read_once_for_all_levels_of_a_page() -> None:
    class Amounts(tuple[SetAmount, ...]):
        __slots__ = ()
        reads = 0

        def __iter__(self) -> Iterator[SetAmount]:
            Amounts.reads += 1
            return super().__iter__()

    known = KnownBudget("miner", None, Amounts([SetAmount("miner", MINER_1, 5), SetAmount("miner", "", 9)]))
    assert [known.amount_nanousd(scope) for scope in (MINER_1, MINER_2, MINER_1)] == [5, 9, 5]
    assert Amounts.reads == 1


def test_an_amount_of_a_scope_that_a_budget_no_longer_has_can_be_removed(app: Flask) -> None:
    posted(app, "/miner/amount", {"usd": 7, "group": "miner:1"})
    app.extensions[EXTENSION].budgets.replace([Budget("miner", 10**6, "day", group="team:*")])
    after = posted(app, "/miner/amount", {"usd": None, "scope": MINER_1})
    assert after["set_amounts"] == []
    assert ask(app, "POST", "/miner/amount", {"usd": 7, "scope": MINER_1}).status_code == 422


# --- resets


def test_a_reset_of_a_budget_answers_the_levels_before_and_keeps_what_is_held(app: Flask) -> None:
    spend(app, 700, "miner:1", held=50)
    spend(app, 200, "miner:2")

    before = posted(app, "/miner/reset")

    assert before["budget"] == "miner"
    assert [(level["scope"], level["used_cost_usd"]) for level in before["levels"]] == [
        (MINER_1, 700e-9),
        (MINER_2, 200e-9),
    ]
    assert spent(app) == {("all", "all"): 900, ("miner", MINER_1): 0, ("miner", MINER_2): 0}
    level = got(app, "/miner?scope=miner:1")["levels"][0]
    assert (level["calls"], level["in_flight"], level["held_cost_usd"]) == (0, 1, 50e-9)


def test_a_reset_of_a_scope_leaves_those_of_which_it_is_a_part(app: Flask) -> None:
    app.extensions[EXTENSION].budgets.replace([Budget("plain", 100, "day", group="g:*")])
    spend(app, 5, "g:1", "g:10")

    posted(app, "/plain/reset", {"scope": "group:g:1"})

    assert spent(app, "/plain") == {("plain", "group:g:1"): 0, ("plain", "group:g:10"): 5}


def test_a_reset_of_one_group_or_scope_leaves_the_others(app: Flask) -> None:
    for group in ("miner:1", "miner:10", "miner:2"):
        spend(app, 5, group)
    assert len(posted(app, "/miner/reset", {"group": "miner:1"})["levels"]) == 1
    assert len(posted(app, "/miner/reset", {"scope": MINER_2})["levels"]) == 1
    assert posted(app, "/miner/reset", {"group": "miner:3"})["levels"] == [], "no call has drawn on it"
    found = spent(app, "/miner")
    assert found == {
        ("miner", MINER_1): 0,
        ("miner", MINER_2): 0,
        ("miner", "group:miner:10 kind:inference"): 5,
    }


# --- refused


def test_an_unknown_budget_is_not_found_and_nothing_is_set(app: Flask, ledger: Ledger) -> None:
    rows = [("GET", "", None), ("POST", "/amount", {"usd": 1}), ("POST", "/reset", None)]

    def check(row: tuple[str, str, object]) -> None:
        method, path, body = row
        reply = ask(app, method, f"/nothing{path}", body)
        assert (reply.status_code, reply.get_json()["code"]) == (404, "budget_not_found")

    check_rows(rows, check)
    assert list(ledger.set_amounts()) == []


def test_an_invalid_body_or_query_is_refused_by_its_field(app: Flask, ledger: Ledger) -> None:
    rows: list[tuple[str, object, str]] = [
        ("/miner/amount", {}, "usd"),
        ("/miner/amount", {"usd": "x"}, "usd"),
        ("/miner/amount", {"usd": -1}, "usd"),
        ("/miner/amount", {"usd": True}, "usd"),
        ("/miner/amount", {"usd": 1_000_001}, "usd"),
        ("/miner/amount", {"usd": 1, "grup": "miner:1"}, "grup"),
        ("/miner/amount", {"usd": 1, "group": "miner:*"}, "group"),
        ("/miner/amount", {"usd": 1, "group": "team:1"}, "group"),
        ("/miner/amount", {"usd": 1, "group": "miner:1", "scope": MINER_1}, "scope"),
        ("/miner/amount", {"usd": 1, "scope": "group:miner:1"}, "scope"),
        ("/miner/amount", {"usd": 1, "scope": "group:miner:* kind:inference"}, "scope"),
        ("/miner/amount", {"usd": 1, "scope": "group:miner:1 model:a kind:inference"}, "scope"),
        ("/red/amount", {"usd": 1, "group": "team:blue"}, "group"),
        ("/all/amount", {"usd": 1, "group": "miner:1"}, "group"),
        ("/all/amount", {"usd": 1, "scope": "group:miner:1"}, "scope"),
        ("/all/reset", {"scope": "nothing"}, "scope"),
        ("/all/reset", {"scope": 5}, "scope"),
        ("/all/reset", {"usd": 5}, "usd"),
    ]
    other = ask(app, "POST", "/miner/amount", {"usd": 1, "group": "team:1"}).get_json()["detail"]
    assert other[0]["msg"] == "The scope of this budget is group:miner:* kind:inference"

    def check(row: tuple[str, object, str]) -> None:
        path, body, field = row
        reply = ask(app, "POST", path, body)
        assert reply.status_code == 422
        assert [problem["loc"] for problem in reply.get_json()["detail"]] == [["body", field]]

    check_rows(rows, check)
    for query, field in (("?ended=yes", "ended"), ("?limit=0", "limit"), ("?group=a", "group")):
        assert ask(app, "GET", query).get_json()["detail"][0]["loc"] == ["query", field]
    assert list(ledger.set_amounts()) == []


def test_only_the_operators_key_may_see_or_change_budgets(app: Flask, ledger: Ledger) -> None:
    client = app.test_client()
    for headers in (AGENT, {}):
        assert client.get("/admin/budgets", headers=headers).status_code == 401
        for path in ("amount", "reset"):
            reply = client.post(f"/admin/budgets/all/{path}", headers=headers, json={"usd": 1})
            assert reply.status_code == 401
    assert list(ledger.set_amounts()) == []


# --- the log


def test_each_change_is_logged_with_its_amounts_and_who_made_it(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spend(app, 700, "miner:1")
    replies = [
        ask(app, "POST", "/miner/amount", {"usd": 7, "group": "miner:1"}),
        ask(app, "POST", "/miner/amount", {"usd": None, "group": "miner:1"}),
        ask(app, "POST", "/miner/reset"),
    ]

    lines = [record.__dict__ for record in caplog.records if record.message.startswith("budget ")]

    assert [line["message"] for line in lines] == [
        "budget amount set",
        "budget amount removed",
        "budget reset",
    ]
    changes = [(line["scope"], line["previous_usd"], line["amount_usd"]) for line in lines[:2]]
    assert changes == [(MINER_1, 5.0, 7.0), (MINER_1, 7.0, 5.0)]
    assert (lines[2]["budget"], lines[2]["levels"], lines[2]["spent_usd"]) == ("miner", 1, 700e-9)
    assert [(line["address"], line["request_id"]) for line in lines] == [
        ("127.0.0.1", reply.headers["X-Request-ID"]) for reply in replies
    ]
