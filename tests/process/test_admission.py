"""Limits on calls in flight: refused at once, never queued, and free again afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

MOST_CALLS = 6
MOST_OF_A_RUN = 4
GATE = directive(gate="admission")


@pytest.fixture(scope="module")
def narrow(fake_chutes: Upstream) -> Iterator[Proxy]:
    with Proxy(
        fake_chutes,
        MAX_CONCURRENT_CALLS=str(MOST_CALLS),
        MAX_CONCURRENT_CALLS_PER_RUN=str(MOST_OF_A_RUN),
    ) as started:
        yield started


def test_a_run_has_its_limit_and_others_have_theirs(narrow: Proxy, chutes: Upstream, run: str) -> None:
    with ThreadPoolExecutor(MOST_OF_A_RUN) as pool:
        held = [pool.submit(narrow.infer, run, GATE) for _ in range(MOST_OF_A_RUN)]
        chutes.wait(at_gate=MOST_OF_A_RUN)
        for answer in (narrow.infer(run), narrow.embed(run)):
            assert answer.outcome == (429, "too_many_in_flight")
            assert answer.headers["retry-after"] == "1"
        assert narrow.infer(f"{run}-other").status == 200
        chutes.release("admission")
        assert {each.result().status for each in held} == {200}
    assert narrow.infer(run).status == 200
    assert chutes.wait(idle=1)["count"] == MOST_OF_A_RUN + 2


def test_above_the_limit_of_all_a_call_is_refused_at_once(narrow: Proxy, chutes: Upstream, run: str) -> None:
    with ThreadPoolExecutor(MOST_CALLS) as pool:
        held = [pool.submit(narrow.infer, f"{run}-{number}", GATE) for number in range(MOST_CALLS)]
        chutes.wait(at_gate=MOST_CALLS)
        assert narrow.in_flight() == MOST_CALLS
        for answer in (narrow.infer(run), narrow.embed(run)):
            assert answer.outcome == (503, "overloaded")
            assert answer.headers["retry-after"] == "2"
        assert narrow.usage(run).held == 0, "what is not a call is still answered"
        assert chutes.wait()["at_gate"] == MOST_CALLS, "nobody had to leave for that"
        chutes.release("admission")
        assert {each.result().status for each in held} == {200}
    assert narrow.infer(run).status == 200
    assert narrow.in_flight() == 0


def test_a_place_is_free_again_after_every_kind_of_end(narrow: Proxy, chutes: Upstream, run: str) -> None:
    for fault in ("at_capacity", "close", "cut", "malformed", "error_line"):
        for _ in range(MOST_CALLS):
            assert narrow.infer(run, directive(fault=fault)).status == 500
    for _ in range(MOST_CALLS):
        with narrow.sending({"run_id": run, "messages": [{"role": "user", "content": GATE}]}):
            chutes.wait(at_gate=1)
        chutes.wait(idle=1)
        wait_until(lambda: narrow.in_flight() == 0, "the call's end")
    assert narrow.infer(run).status == 200
