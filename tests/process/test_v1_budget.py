"""Budgets on `/v1`: the upstream never bills a run more than its budget."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.event_stream import CHAT, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, EMBEDDING, INFERENCE, Proxy, text
from tests.process.server import chat as agents_chat
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.fake_chutes_control import Upstream
    from tests.process.wire import Answer

    Call = Callable[[Proxy, str], tuple[int, str | None]]

CALLS = 100
AFFORDABLE = 5
MAX_TOKENS = 1024
GREEDY = directive(gate="budget", greedy=True)
BUDGET_NANOUSD = AFFORDABLE * expected_holds.hold(GREEDY)
EXHAUSTED = (402, "budget_exhausted")
FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    """A chat with the prompt of `/agents`, so that the hold is the same."""
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, "max_tokens": MAX_TOKENS, **fields}


def outcome(answer: Answer) -> tuple[int, str | None]:
    found = json.loads(answer.body)
    return answer.status, found["error"]["code"] if "error" in found else None


@pytest.fixture(scope="module")
def low_budget_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    budget_usd = f"{BUDGET_NANOUSD // 10**9}.{BUDGET_NANOUSD % 10**9:09}"
    settings: dict[str, Any] = {"MAX_COST_PER_RUN": budget_usd, "MAX_CONCURRENT_CALLS_PER_RUN": str(CALLS)}
    with Proxy(fake_chutes, HOLD_WAIT_SECONDS="0", LEARNED_COUNTS_BYTES="0", **settings) as started:
        yield started


def whole(proxy: Proxy, run: str) -> tuple[int, str | None]:
    return outcome(proxy.ask("POST", CHAT, chat(run, GREEDY)))


def streamed(proxy: Proxy, run: str) -> tuple[int, str | None]:
    """Read a stream to its [DONE], or the error that was answered instead."""
    with EventStream(proxy.port, chat(run, GREEDY)) as stream:
        if stream.status != 200:
            return stream.status, json.loads(stream.line() or "")["error"]["code"]
        assert stream.events()[-1] == "[DONE]"
        return stream.status, None


@each_row("call", [whole, streamed], before=FRESH)
def test_of_100_calls_at_once_on_a_budget_for_5_exactly_5_are_paid(
    low_budget_proxy: Proxy, chutes: Upstream, run: str, call: Call
) -> None:
    barrier = Barrier(CALLS)

    def one() -> tuple[int, str | None]:
        barrier.wait()
        return call(low_budget_proxy, run)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(one) for _ in range(CALLS)]
        chutes.wait(at_gate=AFFORDABLE)
        low_budget_proxy.lines.wait(CALLS - AFFORDABLE, event="request", run=run, code="run_busy")
        usage = low_budget_proxy.usage(run)
        assert (usage.spent, usage.held, usage.remaining) == (0, BUDGET_NANOUSD, 0)
        chutes.release("budget")
        outcomes = [each.result() for each in calls]
    assert sorted(outcomes, key=str) == [(200, None)] * AFFORDABLE + [(429, "run_busy")] * (
        CALLS - AFFORDABLE
    )
    billed = chutes.wait(idle=1)["billed_nanousd"]
    usage = low_budget_proxy.usage(run)
    assert (usage.spent, usage.held, usage.calls) == (billed, 0, AFFORDABLE)
    assert 0 < billed <= BUDGET_NANOUSD


def test_concurrent_calls_on_all_routes_share_one_budget(
    low_budget_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    greedy = directive(greedy=True)
    bodies: list[tuple[str, dict[str, Any]]] = [
        (INFERENCE, agents_chat(run, greedy)),
        (CHAT, chat(run, greedy)),
        (CHAT, chat(run, greedy, stream=True)),
        (EMBEDDING, text(run, "some words")),
        ("/v1/embeddings", {"run_id": run, "input": ["some", "words"]}),
    ]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda body: low_budget_proxy.ask("POST", *body), bodies * 20))
    assert {answer.status for answer in answers} <= {200, 402, 429}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    usage = low_budget_proxy.usage(run)
    assert billed <= usage.spent <= BUDGET_NANOUSD
    assert usage.held == 0


def test_the_upstream_is_asked_for_no_more_tokens_than_the_budget_pays_for(
    low_budget_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    greedy = directive(greedy=True)
    while (answer := low_budget_proxy.ask("POST", CHAT, chat(run, greedy))).status == 200:
        pass
    assert outcome(answer) == EXHAUSTED
    left = BUDGET_NANOUSD
    for call in chutes.calls():
        affordable = (left - expected_holds.bound(greedy)) // expected_holds.NANOUSD_PER_TOKEN
        assert call["max_tokens"] == min(MAX_TOKENS, affordable)
        left -= call["billed_nanousd"]
    assert {outcome(low_budget_proxy.ask("POST", CHAT, chat(run, greedy))) for _ in range(3)} == {EXHAUSTED}
    assert low_budget_proxy.usage(run).spent == BUDGET_NANOUSD - left <= BUDGET_NANOUSD


@each_row("choices", [2, 3], before=FRESH)
def test_a_hold_covers_all_choices(low_budget_proxy: Proxy, chutes: Upstream, run: str, choices: int) -> None:
    prompt = directive(gate="budget")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(low_budget_proxy.ask, "POST", CHAT, chat(run, prompt, n=choices))
        chutes.wait(at_gate=1)
        held = low_budget_proxy.usage(run).held
        chutes.release("budget")
        assert call.result().status == 200
    assert held == choices * expected_holds.hold(prompt)


@each_row("choices", [1, 2, 3], before=FRESH)
def test_choices_share_the_remaining_budget(
    low_budget_proxy: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    greedy = directive(greedy=True)
    answer = low_budget_proxy.ask("POST", CHAT, chat(run, greedy, n=choices) | {"max_tokens": 100_000})
    assert answer.status == 200
    (call,) = chutes.calls()
    left = BUDGET_NANOUSD - choices * expected_holds.bound(greedy)
    assert call["max_tokens"] == left // (choices * expected_holds.NANOUSD_PER_TOKEN)
    assert call["billed_nanousd"] <= low_budget_proxy.usage(run).spent <= BUDGET_NANOUSD


def test_an_estimate_equals_the_later_hold_and_changes_nothing(
    low_budget_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(gate="budget")
    estimate = low_budget_proxy.ask("POST", "/v1/estimate", chat(run, prompt, n=2)).json
    assert (estimate["admitted"], estimate["max_tokens"]) == (True, MAX_TOKENS)
    assert (low_budget_proxy.usage(run).calls, chutes.wait()["count"]) == (0, 0)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(low_budget_proxy.ask, "POST", CHAT, chat(run, prompt, n=2))
        chutes.wait(at_gate=1)
        assert low_budget_proxy.usage(run).held == round(estimate["hold_cost_usd"] * 10**9)
        refused = low_budget_proxy.ask("POST", "/v1/estimate", chat(run, prompt, n=12)).json
        assert (refused["admitted"], refused["code"]) == (False, "run_busy")
        chutes.release("budget")
        assert call.result().status == 200
