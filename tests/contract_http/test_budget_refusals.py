"""A call that a budget above its run refuses: each form says which budget it is, and until when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gevent
import orjson

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.ledger import Kind, MemoryLedger
from ridges_proxy.ledger.sqlite.ledger import SqliteLedger
from ridges_proxy.web.routes.agents import EXHAUSTED as AGENTS_EXHAUSTED
from ridges_proxy.web.routes.platform import EXHAUSTED as PLATFORM_EXHAUSTED
from tests.contract_http.budgets import (
    AFTERNOON,
    CALLS,
    CHEAP,
    HOUR_END,
    MIDNIGHT,
    BudgetedApp,
    budget,
)
from tests.contract_http.openai_api import WHOLE
from tests.contract_http.service import (
    CHAT_URL,
    EMBED_URL,
    MODEL,
    NANOUSD_PER_TOKEN,
    OWN_BUDGET,
    answer_of,
)
from tests.support.app import OPERATOR
from tests.support.table import check_rows
from tests.unit.test_errors import FINAL_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest
    import responses
    from requests import PreparedRequest
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import LevelUsage
    from tests.contract_http.budgets import Agent

MINER = {"budget": "miner", "scope": "group:miner:1", "window": "day", "resets_at": MIDNIGHT}
MINER_MESSAGE = (
    "The budget 'miner' (group miner:1) is used up until 2026-12-01T00:00:00Z: what remains does not pay for"
    " this call. Do not retry it before then"
)
AT_15 = "2026-11-30T15:00:00.000+00:00"
OPENAI = [name for name, (path, _) in CALLS.items() if path.startswith("/v1/")]
OPENROUTER = [name for name, (path, _) in CALLS.items() if path.startswith("/api/v1/")]
AGENTS = [name for name, (path, _) in CALLS.items() if path.startswith("/agents/")]
PLATFORM = [name for name in CALLS if name not in {*OPENAI, *OPENROUTER, *AGENTS}]


def arrange(upstream: responses.RequestsMock) -> None:
    """Let the upstream answer every call of CALLS."""

    def answer(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        stream = orjson.loads(request.body or b"")["stream"]
        return 200, {}, answer_of("Hi") if stream else orjson.dumps(WHOLE)

    upstream.add_callback("POST", CHAT_URL, answer)
    upstream.post(EMBED_URL, json=[[0.5, 1.0]])


def error_of(reply: TestResponse) -> dict[str, Any]:
    """The object of the error, in each form."""
    body = reply.get_json()
    found: dict[str, Any] = body.get("error", body)
    return found


def budget_of(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in OWN_BUDGET if name in error}


def all_of(reply: TestResponse) -> str:
    """The whole answer, in lower case, but for the headers of the rate limit."""
    headers = [f"{name}: {value}" for name, value in reply.headers if not name.startswith("RateLimit-")]
    return f"{headers} {reply.text}".lower()


# --- 402 ---------------------------------------------------------------------------------------------------


def test_each_form_says_which_budget_refuses_and_until_when(upstream: responses.RequestsMock) -> None:
    arrange(upstream)
    proxy = BudgetedApp(budget("all", "50", "day"), budget("miner", "0.5", "day", group="miner:*"))
    proxy.use_up("0.5", "miner:1")
    refused, other = proxy.agent("one", "team:red", "miner:1"), proxy.agent("two", "miner:2")

    def check(name: str) -> None:
        reply = refused.call(name)
        error = error_of(reply) if name not in AGENTS else reply.get_json()
        if name in AGENTS:
            asked = "embeddings or inference" if "embedding" in name else "inference"
            assert (reply.status_code, error) == (200, {"error": AGENTS_EXHAUSTED.format(asked)})
        elif name in PLATFORM:
            assert (reply.status_code, error["detail"]) == (429, PLATFORM_EXHAUSTED)
            assert (error["code"], budget_of(error)) == ("budget_exhausted", MINER)
        else:
            assert (reply.status_code, error["type"]) == (402, "insufficient_quota")
            assert (error["message"], budget_of(error)) == (MINER_MESSAGE, MINER)
            own_code = error["metadata"]["code"] if name in OPENROUTER else error["code"]
            assert own_code == "budget_exhausted"
        assert "Retry-After" not in reply.headers
        assert reply.headers["X-Run-Budget-State"] == "final"
        assert other.call(name).status_code == 200

    check_rows(CALLS, check)
    assert len(upstream.calls) == len(CALLS), "only those of the other run"


def test_the_message_names_any_budget_in_plain_words() -> None:
    def check(row: tuple[dict[str, str], dict[str, Any], str]) -> None:
        entry, fields, text = row
        proxy = BudgetedApp({"name": "dear", "usd": "0.1", **entry})
        proxy.use_up("0.1", "team:red")
        error = error_of(proxy.agent("one", "team:red").call("chat"))
        assert budget_of(error) == {"budget": "dear", **fields}
        assert error["message"] == f"The budget 'dear' {text}"

    rest = "what remains does not pay for this call. Do not retry it"
    kind = {"window": "week", "group": "team:red", "kind": "inference"}
    dear = {"window": "month", "model": MODEL}
    rows: list[tuple[dict[str, str], dict[str, Any], str]] = [
        (
            {"window": "lifetime"},
            {"scope": "all", "window": "lifetime", "resets_at": None},
            f"(all calls) is used up: {rest}",
        ),
        (
            kind,
            {
                "scope": "group:team:red kind:inference",
                "window": "week",
                "resets_at": "2026-12-07T00:00:00.000+00:00",
            },
            f"(group team:red, kind inference) is used up until 2026-12-07T00:00:00Z: {rest} before then",
        ),
        (
            {**dear, "zone": "Asia/Kolkata"},
            {"scope": f"model:{MODEL}", "window": "month", "resets_at": "2026-11-30T18:30:00.000+00:00"},
            f"(model {MODEL}) is used up until 2026-11-30T18:30:00Z: {rest} before then",
        ),
    ]
    check_rows(rows, check)


def test_the_runs_own_budget_is_named_run() -> None:
    proxy = BudgetedApp(budget("all", "50", "day"))
    agent = proxy.agent("one", budget_usd="0.000001")

    def check(name: str) -> None:
        error = error_of(agent.call(name))
        assert budget_of(error) == OWN_BUDGET
        assert error.get("message", "").startswith("The run's budget is exhausted") == (name not in PLATFORM)

    check_rows([*OPENAI, *OPENROUTER, *PLATFORM], check)


def test_the_budget_of_a_model_or_of_a_kind_refuses_only_its_calls(upstream: responses.RequestsMock) -> None:
    arrange(upstream)
    dear = BudgetedApp(budget("dear", "0.5", "week", model=MODEL))
    dear.use_up("0.5")
    prices = orjson.dumps({MODEL: 0.27, CHEAP: {"input": 0.27, "output": 0.27, "upstream": MODEL}}).decode()
    aliased = BudgetedApp(budget("dear", "0.5", "week", model=MODEL), MODEL_PRICES=prices)
    aliased.use_up("0.5")
    vectors = BudgetedApp(budget("vectors", "0.5", "week", kind="embedding"))
    vectors.use_up("0.5", kind=Kind.EMBEDDING)

    def check(row: tuple[BudgetedApp, str, str, str | None]) -> None:
        proxy, name, model, refusing = row
        path, body = CALLS[name]
        fields = {"model": model} if name == "chat" else {}
        reply = proxy.agent("one", "miner:1").post(path, body, **fields)
        found = error_of(reply).get("budget") if reply.status_code == 402 else None
        assert (found, reply.status_code) == (refusing, 402 if refusing else 200)

    rows = [
        (dear, "chat", MODEL, "dear"),
        (dear, "chat", CHEAP, None),
        (dear, "embeddings", "", None),
        (aliased, "chat", CHEAP, "dear"),
        (vectors, "chat", MODEL, None),
        (vectors, "embeddings", "", "vectors"),
    ]
    check_rows(rows, check)


# --- the end of a period is near ---------------------------------------------------------------------------


def test_a_period_that_ends_soon_is_a_429_without_a_final_word(upstream: responses.RequestsMock) -> None:
    arrange(upstream)
    proxy = BudgetedApp(budget("full", "0.5", "hour"))
    proxy.use_up("0.5")
    agent = proxy.agent("one")

    def check(name: str) -> None:
        proxy.clock.now = HOUR_END - 299.5
        reply = agent.call(name)
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "300")
        error = error_of(reply)
        assert budget_of(error) == {"window": "hour", "resets_at": AT_15}
        code = error["metadata"]["code"] if name in OPENROUTER else error["code"]
        message = error["message"] if name in {*OPENAI, *OPENROUTER} else error["detail"]
        assert (code, "try again when the next one begins" in message) == ("run_busy", True)
        assert [word for word in FINAL_WORDS if word in all_of(reply)] == []

        proxy.clock.now = HOUR_END - 300
        reply = agent.call(name)
        status = 200 if name in AGENTS else 429 if name in PLATFORM else 402
        assert (reply.status_code, "Retry-After" in reply.headers) == (status, False)
        assert name not in AGENTS or "maximum cost" in reply.text

        proxy.clock.now = HOUR_END
        before = len(upstream.calls)
        assert (agent.call(name).status_code, len(upstream.calls) - before) == (200, 1)

    check_rows(CALLS, check)


# --- the log and the metrics -------------------------------------------------------------------------------


def test_the_log_names_the_budget_and_the_metrics_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    proxy = BudgetedApp(budget("miner", "0.5", "hour", group="miner:*"))
    proxy.use_up("0.5", "miner:1")
    agent = proxy.agent("one", "miner:1")

    def check(row: tuple[float, str, str]) -> None:
        now, name, code = row
        proxy.clock.now = now
        agent.call(name)
        line = json.loads(capsys.readouterr().err)
        assert (line["code"], line["budget"], line["scope"]) == (code, "miner", "group:miner:1")
        assert line["needed_usd"] > line["remaining_usd"] == 0

    soon = HOUR_END - 10
    rows = [
        (now, name, code)
        for now, code in ((AFTERNOON, "budget_exhausted"), (soon, "run_busy"))
        for name in ("chat", "stream", "embeddings", "platform", "agents")
    ]
    check_rows(rows, check)
    page = proxy.app.test_client().get("/metrics", headers=OPERATOR).text
    assert 'ridges_refused_usd_total{code="budget_exhausted"}' in page
    assert "miner" not in page


# --- many at once ------------------------------------------------------------------------------------------


def test_thirty_calls_at_once_never_exceed_a_budget(upstream: responses.RequestsMock, tmp_path: Path) -> None:
    def check(ledger: MemoryLedger | SqliteLedger) -> None:
        upstream.reset()
        crowd = Crowd(ledger)
        upstream.add_callback("POST", CHAT_URL, crowd.answer)
        statuses, replies = set[int](), crowd.call_at_once()
        while any(reply.status_code != 402 for reply in replies):
            statuses |= {reply.status_code for reply in replies}
            spent = [level.spent_nanousd for level in crowd.levels()]
            assert spent[0] == spent[1] + spent[2] == crowd.billed_nanousd
            replies = crowd.call_at_once()
        assert (statuses - {402}, crowd.most_in_flight > 4) == ({200, 429}, True)
        assert {error_of(reply)["budget"] for reply in replies} <= {"all", "miner"}

    check_rows([MemoryLedger(1200.0), SqliteLedger(tmp_path / "ledger.db", 1200.0)], check)


class Crowd:
    """Five runs in two groups that make thirty calls at once, and an upstream that bills them."""

    def __init__(self, ledger: MemoryLedger | SqliteLedger) -> None:
        budgets = budget("all", "0.002", "day"), budget("miner", "0.0015", "day", group="miner:*")
        self._proxy = BudgetedApp(*budgets, ledger=ledger)
        self._agents = [self._proxy.agent(f"run-{number}", f"miner:{number % 2}") for number in range(5)]
        self.billed_nanousd = 0
        self.most_in_flight = 0

    def call_at_once(self) -> list[TestResponse]:
        path, body = CALLS["chat"]
        calls = [
            gevent.spawn(agent.post, path, body, max_tokens=1_000) for agent in self._agents for _ in range(6)
        ]
        return [call.get() for call in calls]

    def answer(self, request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        """Answer with half of the tokens that were asked for."""
        levels = self.levels()
        assert all(level.spent_nanousd + level.held_nanousd <= level.amount_nanousd for level in levels)
        self.most_in_flight = max(self.most_in_flight, levels[0].in_flight)
        gevent.sleep(0)  # the other calls arrive while this one is in flight
        completed = orjson.loads(request.body or b"")["max_tokens"] // 2
        self.billed_nanousd += (10 + completed) * NANOUSD_PER_TOKEN
        usage = {"prompt_tokens": 10, "completion_tokens": completed, "total_tokens": 10 + completed}
        return 200, {}, orjson.dumps({**WHOLE, "usage": usage})

    def levels(self) -> Sequence[LevelUsage]:
        """The levels of all runs and of both groups, by the ledger."""
        calls, groups = self._proxy.calls, ("miner:0", "miner:1")
        return calls.ledger.levels(calls.budgets.levels_of(groups, MODEL, Kind.INFERENCE, AFTERNOON))


def test_a_refusal_after_the_first_heartbeat_is_an_event_with_the_same_fields() -> None:
    def check(row: tuple[str, float, dict[str, Any]]) -> None:
        path, now, fields = row
        proxy = BudgetedApp(
            budget("miner", "0.5", "day", group="miner:*"),
            budget("full", "0.5", "hour"),
            HEARTBEAT_SECONDS="0.05",
            HOLD_WAIT_SECONDS="60",
        )
        proxy.clock.now = now
        groups = ("miner:1",) if fields == MINER else ()
        hold = proxy.hold("0.5", *groups)
        reply = proxy.agent("one", "miner:1").begin(path)
        pieces = reply.iter_encoded()
        assert (reply.status_code, next(pieces)) == (200, HEARTBEAT)
        proxy.calls.ledger.settle(hold, hold.amount_nanousd)
        rest = b"".join(pieces).removeprefix(HEARTBEAT).decode()
        event = next(json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: "))
        assert budget_of(event["error"]) == fields
        assert fields == MINER or [word for word in FINAL_WORDS if word in rest.lower()] == []

    check_rows(
        [
            ("/v1/chat/completions", HOUR_END - 10, {"window": "hour", "resets_at": AT_15}),
            ("/api/v1/chat/completions", HOUR_END - 10, {"window": "hour", "resets_at": AT_15}),
            ("/v1/chat/completions", AFTERNOON, MINER),
            ("/api/v1/chat/completions", AFTERNOON, MINER),
        ],
        check,
    )


def test_each_agent_can_wait_for_its_period(upstream: responses.RequestsMock) -> None:
    arrange(upstream)
    proxy = BudgetedApp(budget("miner", "0.5", "hour", group="miner:*"))
    proxy.use_up("0.5", "miner:1")
    proxy.clock.now = HOUR_END - 20
    agent: Agent = proxy.agent("one", "miner:1")
    reply = agent.call("chat")
    proxy.clock.advance(float(reply.headers["Retry-After"]))
    assert agent.call("chat").status_code == 200
