"""An agent at the end of its budget: it sees the end, is refused, and can still make its final call."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.levels import Level
from ridges_proxy.ledger import LevelUsage, MemoryLedger
from tests.contract_http.service import (
    CHAT_URL,
    DONE,
    EMBED_URL,
    HELLO,
    RUN,
    answer_of,
    app_of,
    delta,
    embed,
    infer,
    services_of,
    spend,
    spent_nanousd,
    sse,
    tokens,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import responses
    from requests import PreparedRequest
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import CallRecord, Hold, RunUsage

KEY = "the-secret-of-run-tokens-in-tests"
BUDGET_NANOUSD, KEPT_NANOUSD = 1_000_000, 100_000
LIMITS: dict[str, Any] = {"budget_usd": "0.001", "reserve_final_usd": "0.0001"}
FINAL = {"X-Final-Call": "1"}
COMMENT = re.compile(r": cost [0-9.]+ remaining [0-9.]+ state (\w+)\n\n$")


def modest_answer(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
    """An answer of 90 tokens, or of `max_tokens` if that is less."""
    body: dict[str, Any] = orjson.loads(request.body or b"")
    usage = tokens(10, min(90, body["max_tokens"]))
    if body["stream"]:
        return 200, {}, sse(delta("Hi", finish_reason="stop"), usage, DONE)
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return 200, {}, orjson.dumps({**usage, "choices": [message]})


class Agent:
    """An agent with a run token, on one route."""

    def __init__(self, path: str, *, stream: bool) -> None:
        self.app = app_of(RUN_TOKEN_KEY=KEY)
        token, _ = services_of(self.app).run_tokens.issue(RUN, 600, **LIMITS)
        self._key = {"Authorization": f"Bearer {token}"}
        self._path, self._body = path, {"messages": [HELLO], **({"stream": True} if stream else {})}

    def post(self, headers: dict[str, str], path: str = "") -> TestResponse:
        body = self._body if not path else {"messages": [HELLO]}
        return self.app.test_client().post(path or self._path, json=body, headers={**self._key, **headers})

    def states(self, headers: dict[str, str]) -> Iterator[str]:
        """The state after each call, until one is refused."""
        while True:
            reply = self.post(headers)
            if is_refused(reply):
                names_header = "X-Final-Call: 1" in reply.text
                assert names_header is (headers != FINAL and reply.status_code == 402), "it would help"
                assert reply.headers["X-Run-Budget-State"] == "final"
                return
            assert reply.status_code == 200
            yield state_of(reply)

    def estimated(self, headers: dict[str, str]) -> tuple[str | None, int]:
        """The code of the error that would refuse a call, and what the smallest call costs."""
        estimate = self.post(headers, "/v1/estimate").get_json()
        return estimate["code"], round(estimate["least_cost_usd"] * 1e9)

    def spent_nanousd(self) -> int:
        return spent_nanousd(self.app) or 0


def is_refused(reply: TestResponse) -> bool:
    return reply.status_code == 402 or "maximum cost for this evaluation run" in reply.text


def state_of(reply: TestResponse) -> str:
    """The state in the header, or in the comment that ends a stream."""
    if found := COMMENT.search(reply.text):
        assert "X-Run-Budget-State" not in reply.headers, "headers are sent before the call has settled"
        return found[1]
    return reply.headers["X-Run-Budget-State"]


def test_an_agent_sees_the_end_is_refused_and_still_lands_its_final_call(
    upstream: responses.RequestsMock,
) -> None:
    upstream.add_callback("POST", CHAT_URL, modest_answer)

    def check(row: tuple[str, bool]) -> None:
        path, stream = row
        agent = Agent(path, stream=stream)
        seen = list(agent.states({}))
        assert seen == sorted(seen, key=("ok", "low", "final").index)
        assert (set(seen), seen.count("final")) == ({"ok", "low", "final"}, 1), "and then it was refused"
        code, least_nanousd = agent.estimated({})
        assert (code, agent.estimated(FINAL)[0]) == ("budget_exhausted", None)
        spendable_nanousd = BUDGET_NANOUSD - KEPT_NANOUSD
        assert spendable_nanousd - least_nanousd < agent.spent_nanousd() <= spendable_nanousd
        assert list(agent.states({"X-Final-Call": "0"})) == []

        landed = agent.post(FINAL)
        assert (landed.status_code, is_refused(landed)) == (200, False)
        assert state_of(landed) == "low", "another final call would fit"
        rest = list(agent.states(FINAL))
        assert (rest[-1], agent.estimated(FINAL)[0]) == ("final", "budget_exhausted")
        assert BUDGET_NANOUSD - least_nanousd < agent.spent_nanousd() <= BUDGET_NANOUSD

    chat = "/v1/chat/completions"
    check_rows([(chat, False), (chat, True), (f"/api{chat}", True), ("/agents/inference", False)], check)


def test_every_answer_with_the_amounts_has_the_state(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[[0.5]]")

    def check(row: tuple[int, str, str]) -> None:
        spent, chat, embedding = row
        app = app_of(EMBEDDING_PRICE_PER_SECOND="0.0001")
        spend(app, spent)
        for reply, state in ((infer(app), chat), (embed(app), embedding)):
            assert "X-Run-Remaining-USD" in reply.headers
            assert reply.headers["X-Run-Budget-State"] == state

    check_rows(
        [
            (1_000, "ok", "ok"),
            (1_600_000_000, "low", "low"),
            # after the chat, what is left still pays for another, but not for a second of an embedding
            (2_000_000_000 - 87_210 - 10_000, "low", "final"),
            (2_000_000_000 - 10, "final", "final"),
        ],
        check,
    )


class LevelLedger(MemoryLedger):
    """Reports one level above each run."""

    level = LevelUsage(Level("all", "all", "lifetime", 1_000_000), 900_000)

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        usage = super().settle(hold, cost_nanousd, call)
        return usage and replace(usage, levels=(self.level,))


def test_the_budgets_above_the_run_count_too(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    app = app_of(LevelLedger(1200.0))
    assert infer(app).headers["X-Run-Budget-State"] == "low"
