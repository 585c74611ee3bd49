"""Limits on calls in flight. A call above a limit is refused at once, and a finished call frees its place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

MAX_CALLS = 6
MAX_CALLS_OF_A_RUN = 4
GATE = directive(gate="admission")


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    with Proxy(
        fake_chutes,
        MAX_CONCURRENT_CALLS=str(MAX_CALLS),
        MAX_CONCURRENT_CALLS_PER_RUN=str(MAX_CALLS_OF_A_RUN),
    ) as started:
        yield started


def test_the_limit_of_a_run_does_not_affect_other_runs(proxy: Proxy, chutes: Upstream, run: str) -> None:
    with ThreadPoolExecutor(MAX_CALLS_OF_A_RUN) as pool:
        held = [pool.submit(proxy.infer, run, GATE) for _ in range(MAX_CALLS_OF_A_RUN)]
        chutes.wait(at_gate=MAX_CALLS_OF_A_RUN)
        for answer in (proxy.infer(run), proxy.embed(run)):
            assert answer.outcome == (429, "too_many_in_flight")
            assert answer.headers["retry-after"] == "1"
        assert proxy.infer(f"{run}-other").status == 200
        chutes.release("admission")
        assert {each.result().status for each in held} == {200}
    assert proxy.infer(run).status == 200
    assert chutes.wait(idle=1)["count"] == MAX_CALLS_OF_A_RUN + 2


def test_a_call_above_the_limit_of_all_runs_is_refused_at_once(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with ThreadPoolExecutor(MAX_CALLS) as pool:
        held = [pool.submit(proxy.infer, f"{run}-{number}", GATE) for number in range(MAX_CALLS)]
        chutes.wait(at_gate=MAX_CALLS)
        assert proxy.in_flight() == MAX_CALLS
        for answer in (proxy.infer(run), proxy.embed(run)):
            assert answer.outcome == (503, "overloaded")
            assert answer.headers["retry-after"] == "2"
        assert proxy.usage(run).held == 0, "other requests are still answered"
        assert chutes.wait()["at_gate"] == MAX_CALLS, "no admitted call was ended"
        chutes.release("admission")
        assert {each.result().status for each in held} == {200}
    assert proxy.infer(run).status == 200
    assert proxy.in_flight() == 0


def test_a_call_frees_its_place_however_it_ends(proxy: Proxy, chutes: Upstream, run: str) -> None:
    for fault in ("at_capacity", "close", "cut", "malformed", "error_line"):
        for _ in range(MAX_CALLS):
            assert proxy.infer(run, directive(fault=fault)).status == 500
    for _ in range(MAX_CALLS):
        with proxy.sending({"run_id": run, "messages": [{"role": "user", "content": GATE}]}):
            chutes.wait(at_gate=1)
        chutes.wait(idle=1)
        wait_until(lambda: proxy.in_flight() == 0, "the end of the call")
    assert proxy.infer(run).status == 200
