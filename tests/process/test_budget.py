"""The first promise: a run never costs more than its cap, by the upstream's own books."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from tests.process import terms
from tests.process.fake_chutes_control import Upstream, directive
from tests.process.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.wire import Answer

CALLS = 100
AFFORDABLE = 5
HONEST = directive(gate="budget")
GREEDY = directive(gate="budget", greedy=True)
CAP = AFFORDABLE * terms.hold(HONEST)
"""To the nano-dollar; of greedy calls, whose prompt is longer, the fifth gets what is left."""

EXHAUSTED = {
    "error": "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more inference from this agent version."
}


@pytest.fixture(scope="module")
def poor(fake_chutes: Upstream) -> Iterator[Proxy]:
    cap_usd = f"{CAP // 10**9}.{CAP % 10**9:09}"
    with Proxy(fake_chutes, MAX_COST_PER_RUN=cap_usd, MAX_CONCURRENT_CALLS_PER_RUN=str(CALLS)) as started:
        yield started


def rush(proxy: Proxy, chutes: Upstream, run: str, prompt: str) -> list[Answer]:
    """100 calls that start together; the gate opens once all but five have been refused."""
    line = Barrier(CALLS)

    def call() -> Answer:
        line.wait()
        return proxy.infer(run, prompt)

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(call) for _ in range(CALLS)]
        chutes.wait(at_gate=AFFORDABLE)
        proxy.lines.wait(CALLS - AFFORDABLE, event="request", run=run, code="budget_held")
        books = proxy.usage(run)
        assert chutes.wait()["count"] == AFFORDABLE
        assert (books.spent, books.remaining + books.held) == (0, CAP)
        chutes.release("budget")
        return [each.result() for each in calls]


@pytest.mark.parametrize("prompt", [HONEST, GREEDY], ids=["honest", "greedy"])
def test_of_100_calls_at_once_on_a_budget_for_5_exactly_5_are_paid(
    poor: Proxy, chutes: Upstream, run: str, prompt: str
) -> None:
    answers = rush(poor, chutes, run, prompt)
    good = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(good) == AFFORDABLE
    assert {answer.outcome for answer in refused} == {(429, "budget_held")}
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    books = poor.usage(run)
    assert books == (billed, 0, CAP - billed, billed, 0, CAP, AFFORDABLE)
    assert 0 < billed <= CAP


def test_five_that_are_held_hold_the_whole_cap(poor: Proxy, chutes: Upstream, run: str) -> None:
    with ThreadPoolExecutor(AFFORDABLE) as pool:
        calls = [pool.submit(poor.infer, run, HONEST) for _ in range(AFFORDABLE)]
        chutes.wait(at_gate=AFFORDABLE)
        assert poor.usage(run) == (0, CAP, 0, 0, 0, CAP, 0)
        assert poor.embed(run).outcome == (429, "budget_held"), "one cap for both kinds"
        chutes.release("budget")
        assert [call.result().status for call in calls] == [200] * AFFORDABLE


def test_a_greedy_upstream_is_paid_until_the_cap_and_never_past_it(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(greedy=True)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: poor.infer(run, prompt), range(CALLS)))
    last = poor.infer(run, prompt)
    while last.status == 429:  # refused while another was held
        last = poor.infer(run, prompt)
    while last.json != EXHAUSTED:
        assert last.status == 200
        last = poor.infer(run, prompt)
    assert {answer.status for answer in answers} <= {200, 429}
    billed = chutes.wait(idle=1)["billed_nanousd"]
    books = poor.usage(run)
    assert (books.spent, books.held) == (billed, 0)
    assert CAP - terms.floor(prompt) < billed <= CAP
    assert {poor.infer(run, prompt).body for _ in range(3)} == {last.body}, "final"


def test_an_upstream_that_reports_no_usage_cannot_be_used_past_the_cap(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(usage="none", events=5000)
    while (answer := poor.infer(run, prompt)).json != EXHAUSTED:
        assert answer.status == 200
    billed = chutes.wait(idle=1)["billed_nanousd"]
    assert billed <= poor.usage(run).spent <= CAP


def test_max_tokens_upstream_is_what_the_hold_pays_for(poor: Proxy, chutes: Upstream, run: str) -> None:
    prompt = directive(greedy=True)
    while poor.infer(run, prompt).json != EXHAUSTED:
        pass
    left = CAP
    for call in chutes.calls():
        affordable = (left - terms.bound(prompt)) // terms.NANOUSD_PER_TOKEN
        assert call["max_tokens"] == min(terms.MAX_TOKENS, affordable)
        left -= call["billed_nanousd"]


def test_usage_above_the_hold_is_recorded_in_full_and_ends_the_run(
    poor: Proxy, chutes: Upstream, run: str
) -> None:
    tokens = 10 * CAP // terms.NANOUSD_PER_TOKEN
    prompt = directive(usage={"prompt_tokens": tokens, "completion_tokens": 0})
    assert poor.infer(run, prompt).status == 200
    chutes.wait(idle=1)
    assert poor.usage(run)[:3] == (tokens * terms.NANOUSD_PER_TOKEN, 0, 0)
    assert poor.infer(run, prompt).json == EXHAUSTED
    assert poor.lines.wait(event="call cost more than its hold", run=run)[0]["level"] == "ERROR"
    assert poor.ready().json["calls"]["settled_above_hold"] >= 1
