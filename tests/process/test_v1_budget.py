"""Budgets on `/v1`: the upstream never bills a run more than its budget."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import terms
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
CAP = AFFORDABLE * terms.hold(GREEDY)
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
def small_budget(fake_chutes: Upstream) -> Iterator[Proxy]:
    cap_usd = f"{CAP // 10**9}.{CAP % 10**9:09}"
    with Proxy(fake_chutes, MAX_COST_PER_RUN=cap_usd, MAX_CONCURRENT_CALLS_PER_RUN=str(CALLS)) as started:
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
    small_budget: Proxy, chutes: Upstream, run: str, call: Call
) -> None:
    barrier = Barrier(CALLS)

    def one() -> tuple[int, str | None]:
        barrier.wait()
        return call(small_budget, run)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(one) for _ in range(CALLS)]
        chutes.wait(at_gate=AFFORDABLE)
        small_budget.lines.wait(CALLS - AFFORDABLE, event="request", run=run, code="budget_held")
        usage = small_budget.usage(run)
        assert (usage.spent, usage.held, usage.remaining) == (0, CAP, 0)
        chutes.release("budget")
        outcomes = [each.result() for each in calls]
    assert sorted(outcomes, key=str) == [(200, None)] * AFFORDABLE + [(429, "budget_held")] * (
        CALLS - AFFORDABLE
    )
    billed = chutes.wait(idle=1)["billed_nanousd"]
    usage = small_budget.usage(run)
    assert (usage.spent, usage.held, usage.calls) == (billed, 0, AFFORDABLE)
    assert 0 < billed <= CAP


def test_concurrent_calls_on_all_routes_share_one_budget(
    small_budget: Proxy, chutes: Upstream, run: str
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
        answers = list(pool.map(lambda body: small_budget.ask("POST", *body), bodies * 20))
    assert {answer.status for answer in answers} <= {200, 402, 429}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    usage = small_budget.usage(run)
    assert billed <= usage.spent <= CAP
    assert usage.held == 0


def test_the_upstream_is_asked_for_no_more_tokens_than_the_budget_pays_for(
    small_budget: Proxy, chutes: Upstream, run: str
) -> None:
    greedy = directive(greedy=True)
    while (answer := small_budget.ask("POST", CHAT, chat(run, greedy))).status == 200:
        pass
    assert outcome(answer) == EXHAUSTED
    left = CAP
    for call in chutes.calls():
        affordable = (left - terms.bound(greedy)) // terms.NANOUSD_PER_TOKEN
        assert call["max_tokens"] == min(MAX_TOKENS, affordable)
        left -= call["billed_nanousd"]
    assert {outcome(small_budget.ask("POST", CHAT, chat(run, greedy))) for _ in range(3)} == {EXHAUSTED}
    assert small_budget.usage(run).spent == CAP - left <= CAP


@each_row("choices", [2, 3], before=FRESH)
def test_a_hold_covers_all_choices(small_budget: Proxy, chutes: Upstream, run: str, choices: int) -> None:
    prompt = directive(gate="budget")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(small_budget.ask, "POST", CHAT, chat(run, prompt, n=choices))
        chutes.wait(at_gate=1)
        held = small_budget.usage(run).held
        chutes.release("budget")
        assert call.result().status == 200
    assert held == choices * terms.hold(prompt)


@each_row("choices", [1, 2, 3], before=FRESH)
def test_choices_share_the_remaining_budget(
    small_budget: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    greedy = directive(greedy=True)
    answer = small_budget.ask("POST", CHAT, chat(run, greedy, n=choices) | {"max_tokens": 100_000})
    assert answer.status == 200
    (call,) = chutes.calls()
    left = CAP - choices * terms.bound(greedy)
    assert call["max_tokens"] == left // (choices * terms.NANOUSD_PER_TOKEN)
    assert call["billed_nanousd"] <= small_budget.usage(run).spent <= CAP


def test_an_estimate_equals_the_later_hold_and_changes_nothing(
    small_budget: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(gate="budget")
    estimate = small_budget.ask("POST", "/v1/estimate", chat(run, prompt, n=2)).json
    assert (estimate["admitted"], estimate["max_tokens"]) == (True, MAX_TOKENS)
    assert (small_budget.usage(run).calls, chutes.wait()["count"]) == (0, 0)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(small_budget.ask, "POST", CHAT, chat(run, prompt, n=2))
        chutes.wait(at_gate=1)
        assert small_budget.usage(run).held == round(estimate["hold_cost_usd"] * 10**9)
        refused = small_budget.ask("POST", "/v1/estimate", chat(run, prompt, n=12)).json
        assert (refused["admitted"], refused["code"]) == (False, "budget_held")
        chutes.release("budget")
        assert call.result().status == 200
