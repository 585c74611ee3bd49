"""A run never costs more than its budget, by the bills of the upstream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.wire import Answer

CALLS = 100
AFFORDABLE = 5
HONEST = directive(gate="budget")
GREEDY = directive(gate="budget", greedy=True)
BUDGET = AFFORDABLE * expected_holds.hold(HONEST)
"""Exactly five honest calls. The prompt of greedy calls is longer: the fifth gets the remaining budget."""

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more inference from this agent version."
}


@pytest.fixture(scope="module")
def poor(fake_chutes: Upstream) -> Iterator[Proxy]:
    budget_usd = f"{BUDGET // 10**9}.{BUDGET % 10**9:09}"
    settings: dict[str, Any] = {"MAX_COST_PER_RUN": budget_usd, "MAX_CONCURRENT_CALLS_PER_RUN": str(CALLS)}
    with Proxy(fake_chutes, HOLD_WAIT_SECONDS="0", LEARNED_COUNTS_BYTES="0", **settings) as started:
        yield started


def start_together(proxy: Proxy, chutes: Upstream, run: str, prompt: str) -> list[Answer]:
    """Start 100 calls at the same time. Open the gate once all but five have been refused."""
    barrier = Barrier(CALLS)

    def call() -> Answer:
        barrier.wait()
        return proxy.infer(run, prompt)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(call) for _ in range(CALLS)]
        chutes.wait(at_gate=AFFORDABLE)
        proxy.lines.wait(CALLS - AFFORDABLE, event="request", run=run, code="run_busy")
        usage = proxy.usage(run)
        assert chutes.wait()["count"] == AFFORDABLE
        assert (usage.spent, usage.remaining + usage.held) == (0, BUDGET)
        chutes.release("budget")
        return [each.result() for each in calls]


@each_row("prompt", [HONEST, GREEDY], before={"chutes": emptied, "run": lambda _: uuid4().hex})
def test_a_budget_for_5_calls_admits_exactly_5_of_100_simultaneous_calls(
    poor: Proxy, chutes: Upstream, run: str, prompt: str
) -> None:
    answers = start_together(poor, chutes, run, prompt)
    good = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(good) == AFFORDABLE
    assert {answer.outcome for answer in refused} == {(429, "run_busy")}
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert poor.usage(run) == (billed, 0, BUDGET - billed, billed, 0, BUDGET, AFFORDABLE)
    assert 0 < billed <= BUDGET


def test_five_calls_in_flight_hold_the_full_budget(poor: Proxy, chutes: Upstream, run: str) -> None:
    with ThreadPoolExecutor(AFFORDABLE) as pool:
        calls = [pool.submit(poor.infer, run, HONEST) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        assert poor.usage(run) == (0, BUDGET, 0, 0, 0, BUDGET, 0)
        assert poor.embed(run).outcome == (429, "run_busy"), "inference and embedding share one budget"
        chutes.release("budget")
        assert [call.result().status for call in calls] == [200] * AFFORDABLE


def test_a_greedy_upstream_is_paid_up_to_the_budget_and_not_more(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(greedy=True)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: poor.infer(run, prompt), range(CALLS)))
    last = poor.infer(run, prompt)
    while last.status == 429:  # refused because of a call in flight
        last = poor.infer(run, prompt)
    while last.json != EXHAUSTED:
        assert last.status == 200
        last = poor.infer(run, prompt)
    assert {answer.status for answer in answers} <= {200, 429}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert poor.usage(run)[:2] == (billed, 0)
    assert BUDGET - expected_holds.minimum(prompt) < billed <= BUDGET
    assert {poor.infer(run, prompt).body for _ in range(3)} == {last.body}, "the refusal is final"


def test_the_budget_holds_if_the_upstream_reports_no_usage(poor: Proxy, chutes: Upstream, run: str) -> None:
    prompt = directive(usage="none", events=5000)
    while (answer := poor.infer(run, prompt)).json != EXHAUSTED:
        assert answer.status == 200
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert billed <= poor.usage(run).spent <= BUDGET


def test_the_upstream_gets_the_max_tokens_that_the_hold_covers(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(greedy=True)
    while poor.infer(run, prompt).json != EXHAUSTED:
        pass
    remaining = BUDGET
    for call in chutes.calls():
        affordable = (remaining - expected_holds.bound(prompt)) // expected_holds.NANOUSD_PER_TOKEN
        assert call["max_tokens"] == min(expected_holds.MAX_TOKENS, affordable)
        remaining -= call["billed_nanousd"]


def test_usage_above_the_hold_is_recorded_in_full_and_ends_the_run(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    tokens = 10 * BUDGET // expected_holds.NANOUSD_PER_TOKEN
    prompt = directive(usage={"prompt_tokens": tokens - 5, "completion_tokens": 5})
    assert poor.infer(run, prompt).status == 200
    chutes.wait(idle=1)
    assert poor.usage(run)[:3] == (tokens * expected_holds.NANOUSD_PER_TOKEN, 0, 0)
    assert poor.infer(run, prompt).json == EXHAUSTED
    assert poor.lines.wait(event="call cost more than its hold", run=run)[0]["level"] == "ERROR"
    assert poor.ready().json["calls"]["settled_above_hold"] >= 1
