"""The first promise on `/v1`: by the upstream's own books, a run never costs more than its cap."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from tests.process import terms
from tests.process.event_stream import CHAT, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, EMBEDDING, INFERENCE, Proxy, text
from tests.process.server import chat as agents_chat

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


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    """A chat whose prompt is that of `/agents`, so that its hold is too."""
    messages = [{"role": "user", "content": f"{CANARY} {prompt}"}]
    return {"run_id": run, "messages": messages, "max_tokens": MAX_TOKENS, **fields}


def outcome(answer: Answer) -> tuple[int, str | None]:
    found = json.loads(answer.body)
    return answer.status, found["error"]["code"] if "error" in found else None


@pytest.fixture(scope="module")
def poor(fake_chutes: Upstream) -> Iterator[Proxy]:
    cap_usd = f"{CAP // 10**9}.{CAP % 10**9:09}"
    with Proxy(fake_chutes, MAX_COST_PER_RUN=cap_usd, MAX_CONCURRENT_CALLS_PER_RUN=str(CALLS)) as started:
        yield started


def whole(proxy: Proxy, run: str) -> tuple[int, str | None]:
    return outcome(proxy.ask("POST", CHAT, chat(run, GREEDY)))


def streamed(proxy: Proxy, run: str) -> tuple[int, str | None]:
    """A stream read to its end, which is [DONE]; or the error that it never became one for."""
    with EventStream(proxy.port, chat(run, GREEDY)) as stream:
        if stream.status != 200:
            return stream.status, json.loads(stream.line() or "")["error"]["code"]
        assert stream.events()[-1] == "[DONE]"
        return stream.status, None


@pytest.mark.parametrize("call", [whole, streamed])
def test_of_100_calls_at_once_on_a_budget_for_5_exactly_5_are_paid(
    poor: Proxy, chutes: Upstream, run: str, call: Call
) -> None:
    line = Barrier(CALLS)

    def one() -> tuple[int, str | None]:
        line.wait()
        return call(poor, run)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(one) for _ in range(CALLS)]
        chutes.wait(at_gate=AFFORDABLE)
        poor.lines.wait(CALLS - AFFORDABLE, event="request", run=run, code="budget_held")
        books = poor.usage(run)
        assert (books.spent, books.held, books.remaining) == (0, CAP, 0)
        chutes.release("budget")
        outcomes = [each.result() for each in calls]
    assert sorted(outcomes, key=str) == [(200, None)] * AFFORDABLE + [(429, "budget_held")] * (
        CALLS - AFFORDABLE
    )
    billed = chutes.wait(idle=1)["billed_nanousd"]
    books = poor.usage(run)
    assert (books.spent, books.held, books.calls) == (billed, 0, AFFORDABLE)
    assert 0 < billed <= CAP


def test_every_route_at_once_on_one_run_keeps_to_the_one_cap(poor: Proxy, chutes: Upstream, run: str) -> None:
    greedy = directive(greedy=True)
    bodies: list[tuple[str, dict[str, Any]]] = [
        (INFERENCE, agents_chat(run, greedy)),
        (CHAT, chat(run, greedy)),
        (CHAT, chat(run, greedy, stream=True)),
        (EMBEDDING, text(run, "some words")),
        ("/v1/embeddings", {"run_id": run, "input": ["some", "words"]}),
    ]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda body: poor.ask("POST", *body), bodies * 20))
    assert {answer.status for answer in answers} <= {200, 402, 429}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    books = poor.usage(run)
    assert billed <= books.spent <= CAP
    assert books.held == 0


def test_what_the_budget_pays_for_is_what_the_upstream_is_asked_for_until_it_is_final(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    greedy = directive(greedy=True)
    while (answer := poor.ask("POST", CHAT, chat(run, greedy))).status == 200:
        pass
    assert outcome(answer) == EXHAUSTED
    left = CAP
    for call in chutes.calls():
        affordable = (left - terms.bound(greedy)) // terms.NANOUSD_PER_TOKEN
        assert call["max_tokens"] == min(MAX_TOKENS, affordable)
        left -= call["billed_nanousd"]
    assert {outcome(poor.ask("POST", CHAT, chat(run, greedy))) for _ in range(3)} == {EXHAUSTED}
    assert poor.usage(run).spent == CAP - left <= CAP


@pytest.mark.parametrize("choices", [2, 3])
def test_choices_multiply_what_is_held_and_divide_what_is_asked_for(
    poor: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    prompt = directive(gate="budget")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(poor.ask, "POST", CHAT, chat(run, prompt, n=choices))
        chutes.wait(at_gate=1)
        held = poor.usage(run).held
        chutes.release("budget")
        assert call.result().status == 200
    assert held == choices * terms.hold(prompt)


@pytest.mark.parametrize("choices", [1, 2, 3])
def test_choices_share_what_is_left_and_the_upstream_cannot_run_past_it(
    poor: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    greedy = directive(greedy=True)
    answer = poor.ask("POST", CHAT, chat(run, greedy, n=choices) | {"max_tokens": 100_000})
    assert answer.status == 200
    (call,) = chutes.calls()
    left = CAP - choices * terms.bound(greedy)
    assert call["max_tokens"] == left // (choices * terms.NANOUSD_PER_TOKEN)
    assert call["billed_nanousd"] <= poor.usage(run).spent <= CAP


def test_an_estimate_is_what_the_call_then_holds_and_changes_nothing(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(gate="budget")
    estimate = poor.ask("POST", "/v1/estimate", chat(run, prompt, n=2)).json
    assert (estimate["admitted"], estimate["max_tokens"]) == (True, MAX_TOKENS)
    assert (poor.usage(run).calls, chutes.wait()["count"]) == (0, 0)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(poor.ask, "POST", CHAT, chat(run, prompt, n=2))
        chutes.wait(at_gate=1)
        assert poor.usage(run).held == round(estimate["hold_cost_usd"] * 10**9)
        refused = poor.ask("POST", "/v1/estimate", chat(run, prompt, n=12)).json
        assert (refused["admitted"], refused["code"]) == (False, "budget_held")
        chutes.release("budget")
        assert call.result().status == 200
