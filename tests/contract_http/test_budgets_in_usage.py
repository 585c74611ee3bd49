"""The budgets above a run, wherever its usage is shown, and in the estimate of a call."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.ledger import Kind, MemoryLedger
from tests.contract_http.budgets import (
    AFTERNOON,
    CALLS,
    CHAT,
    CHEAP,
    HOUR_END,
    MIDNIGHT,
    BudgetedApp,
    budget,
)
from tests.contract_http.openai_api import HELLO_HOLD_NANOUSD
from tests.contract_http.service import CHAT_URL, HEADERS, HELLO_TOKENS, MODEL, NANOUSD_PER_TOKEN, answer_of
from tests.support.app import OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import responses

    from ridges_proxy.billing.levels import Level
    from ridges_proxy.ledger import LevelUsage
    from tests.contract_http.budgets import Agent

ALL = budget("all", "50", "day")
MINER = budget("miner", "0.5", "hour", group="miner:*")
DEAR = budget("dear", "0.2", "lifetime", model=CHEAP)
USAGE_PATHS = (
    "/agents/usage",
    "/v1/usage",
    "/api/usage?run_id=one",
    "/api/usage?evaluation_run_id=one",
    "/api/v1/usage",
)
AT_15 = "2026-11-30T15:00:00.000+00:00"
NOTHING = {"used_cost_usd": 0.0, "held_cost_usd": 0.0, "calls": 0}


class CountingLedger(MemoryLedger):
    """Counts how often it is asked for levels."""

    asked = 0

    def levels(self, levels: Sequence[Level]) -> Sequence[LevelUsage]:
        self.asked += 1
        return super().levels(levels)


def level(name: str, scope: str, period: str, usd: float, **fields: object) -> dict[str, Any]:
    """A level as the API shows it: without calls, unless the fields say otherwise."""
    shown = {
        "budget": name,
        "scope": scope,
        "window": period.partition(" ")[0],
        "period": period,
        "resets_at": None,
        "max_cost_usd": usd,
        "remaining_cost_usd": usd,
        **NOTHING,
    }
    return {**shown, **fields}


def names_of(levels: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["budget"], each["scope"]) for each in levels]


# --- usage -------------------------------------------------------------------------------------------------


def test_each_form_of_the_usage_has_every_level_of_the_run() -> None:
    proxy = BudgetedApp(ALL, MINER, DEAR)
    proxy.use_up("0.125", "miner:1")
    proxy.use_up("0.25", "miner:2")
    proxy.hold("0.0625", "miner:1")
    agent = proxy.agent("one", "miner:1", "team:red")
    hour = "hour 2026-11-30T14:00Z"
    held = {"held_cost_usd": 0.0625}
    expected = [
        level("all", "all", "day 2026-11-30", 50.0, resets_at=MIDNIGHT, used_cost_usd=0.375, calls=2, **held)
        | {"remaining_cost_usd": 49.5625},
        level("miner", "group:miner:1", hour, 0.5, resets_at=AT_15, used_cost_usd=0.125, calls=1, **held)
        | {"remaining_cost_usd": 0.3125},
        level("dear", f"model:{CHEAP}", "lifetime", 0.2),
    ]

    def check(path: str) -> None:
        assert agent.get(path)["budgets"] == expected

    check_rows(USAGE_PATHS, check)
    assert agent.get("/v1/usage")["remaining_cost_usd"] == 2.0, "that of the run is its own"
    proxy.clock.now = HOUR_END
    of_miner = agent.get("/v1/usage")["budgets"][1]
    assert (of_miner["period"], of_miner["remaining_cost_usd"]) == ("hour 2026-11-30T15:00Z", 0.5)


def test_a_run_shows_the_groups_of_the_callers_token_else_those_of_its_last_call(
    upstream: responses.RequestsMock,
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    proxy = BudgetedApp(MINER)
    client = proxy.app.test_client()
    first = proxy.agent("one", "miner:1")

    def with_key() -> list[tuple[str, str]]:
        """As the shared key sees it."""
        body = client.get("/v1/usage?run_id=one", headers=HEADERS).get_json()
        return names_of(body["budgets"])

    assert names_of(first.get("/v1/usage")["budgets"]) == [("miner", "group:miner:1")]
    assert with_key() == [], "there was no call"
    assert first.call("agents").status_code == 200
    assert with_key() == [("miner", "group:miner:1")]
    other = proxy.agent("one", "miner:2")
    assert names_of(other.get("/v1/usage")["budgets"]) == [("miner", "group:miner:2")]


def test_the_amount_in_force_is_shown() -> None:
    proxy = BudgetedApp(MINER)
    proxy.calls.ledger.set_amount("miner", "group:miner:1", 750_000_000)
    (shown,) = proxy.agent("one", "miner:1").get("/v1/usage")["budgets"]
    assert (shown["max_cost_usd"], shown["remaining_cost_usd"]) == (0.75, 0.75)


def test_a_page_of_runs_asks_the_ledger_once() -> None:
    ledger = CountingLedger(1200.0)
    proxy = BudgetedApp(ALL, MINER, ledger=ledger)
    for number in range(5):
        proxy.use_up("0.125", f"miner:{number % 2}", run_id=f"run-{number}")
    page = proxy.app.test_client().get("/admin/runs?sort=run_id", headers=OPERATOR).get_json()
    assert ledger.asked == 1
    assert [
        [(each["scope"], each["used_cost_usd"], each["calls"]) for each in run["budgets"]]
        for run in page["runs"]
    ] == [
        [("all", 0.625, 5), ("group:miner:0", 0.375, 3)],
        [("all", 0.625, 5), ("group:miner:1", 0.25, 2)],
    ] * 2 + [[("all", 0.625, 5), ("group:miner:0", 0.375, 3)]]
    for method, action in (("GET", ""), ("POST", "/reset"), ("POST", "/close")):
        run = proxy.app.test_client().open(f"/admin/runs/run-1{action}", method=method, headers=OPERATOR)
        assert names_of(run.get_json()["budgets"]) == [("all", "all"), ("miner", "group:miner:1")]


def test_without_budgets_the_ledger_is_not_asked() -> None:
    ledger = CountingLedger(1200.0)
    proxy = BudgetedApp(ledger=ledger)
    assert proxy.agent("one").get("/v1/usage")["budgets"] == []
    assert ledger.asked == 0


def test_the_examples_of_the_page_are_what_a_miner_gets() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "operating", "budgets.md").read_text(encoding="utf-8")
    text = page.partition("\n## Refusals\n")[2].partition("\n## Watching and changing budgets\n")[0]
    refusal, shown = map(orjson.loads, re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    proxy = BudgetedApp(ALL, budget("miner", "5", "day", group="miner:*"))
    proxy.use_up("4.75", "miner:ann")
    hold = proxy.hold("0.125", "miner:ann")
    ann = proxy.agent("one", "miner:ann")
    assert ann.get("/v1/usage")["budgets"][1] == shown
    proxy.calls.ledger.settle(hold, hold.amount_nanousd)
    proxy.use_up("0.125", "miner:ann")
    error = ann.call("chat").get_json()["error"]
    assert {name: error[name] for name in refusal} == refusal


# --- estimates ---------------------------------------------------------------------------------------------


def estimate(agent: Agent, **fields: object) -> Any:  # noqa: ANN401 - any JSON
    return agent.post("/v1/estimate", CHAT, **fields).get_json()


def test_an_estimate_says_which_budget_would_refuse_the_call_or_until_when() -> None:
    proxy = BudgetedApp(ALL, MINER, DEAR)
    proxy.use_up("0.5", "miner:1", model="another")
    proxy.use_up("0.2", model=CHEAP)
    miner = ("miner", "group:miner:1", "hour", AT_15)

    def check(row: tuple[float, str, str, str | None, tuple[str | None, ...], str]) -> None:
        now, group, model, code, refusing, message = row
        proxy.clock.now = now
        agent = proxy.agent("one", group)
        found = estimate(agent, model=model)
        assert (found["code"], found["admitted"]) == (code, code is None)
        assert tuple(found[name] for name in ("budget", "scope", "window", "resets_at")) == refusing
        assert (found["message"] or "").startswith(message)
        path, body = CALLS["chat"]
        if code is not None:
            assert agent.post(path, body, model=model).get_json()["error"]["code"] == code

    none = (None,) * 4
    rows: list[tuple[float, str, str, str | None, tuple[str | None, ...], str]] = [
        (
            AFTERNOON,
            "miner:1",
            MODEL,
            "budget_exhausted",
            miner,
            "The budget 'miner' (group miner:1) is used up until 2026-11-30T15:00:00Z: ",
        ),
        (HOUR_END - 299, "miner:1", MODEL, "run_busy", miner, "No more such calls are possible"),
        (HOUR_END, "miner:1", MODEL, None, none, ""),
        (AFTERNOON, "miner:2", MODEL, None, none, ""),
        (
            AFTERNOON,
            "miner:1",
            CHEAP,
            "budget_exhausted",
            ("dear", f"model:{CHEAP}", "lifetime", None),
            "The budget 'dear' ",
        ),
    ]
    check_rows(rows, check)


def test_the_hold_of_an_estimate_is_cut_to_the_smallest_remaining(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    proxy = BudgetedApp(ALL, MINER)
    agent = proxy.agent("one", "miner:1")
    rest_nanousd = (HELLO_TOKENS + 1_000) * NANOUSD_PER_TOKEN
    proxy.use_up(f"{(500_000_000 - rest_nanousd) / 1e9:.9f}", "miner:1")
    found = estimate(agent)
    assert (found["hold_cost_usd"], found["max_tokens"]) == (rest_nanousd / 1e9, 1_000)
    assert found["most_cost_usd"] == HELLO_HOLD_NANOUSD / 1e9
    assert [each["remaining_cost_usd"] for each in found["budgets"]] == [
        50 - (500_000_000 - rest_nanousd) / 1e9,
        rest_nanousd / 1e9,
    ]
    proxy.hold(f"{rest_nanousd / 1e9:.9f}", "miner:1")
    found = estimate(agent)
    assert (found["code"], found["budget"], found["hold_cost_usd"]) == ("run_busy", None, 0), "it would wait"


def test_an_estimate_has_only_the_budgets_of_the_call() -> None:
    proxy = BudgetedApp(ALL, DEAR, budget("vectors", "1", "day", kind=Kind.EMBEDDING))
    agent = proxy.agent("one")
    names = [name for name, _ in names_of(estimate(agent, model=MODEL)["budgets"])]
    assert (names, len(agent.get("/v1/usage")["budgets"])) == (["all"], 3)
