"""Tokens that the upstream generates and does not send: the run pays at least what the upstream bills."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.process import expected_holds
from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

BUDGET_NANOUSD = 20_000_000
TOKENS_PER_SECOND = 1_000
STAY_SECONDS = 0.7
MAX_LEAVES = 8
WHOLE_HOLDS = 3
FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy whose budget pays for 74,000 tokens, and that waits one second for a silent stream."""
    with Proxy(fake_chutes, MAX_COST_PER_RUN="0.02", IDLE_TIMEOUT_SECONDS="1") as started:
        yield started


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    return {"run_id": run, "messages": [{"role": "user", "content": prompt}], "max_tokens": 30_000, **fields}


@each_row(
    "options, fields",
    [
        ({}, {"include_reasoning": False}),
        ({"alive": "comments"}, {"include_reasoning": False}),
        ({"alive": "chunks"}, {"include_reasoning": False}),
        ({"alive": "comments"}, {}),  # a model that thinks in silence, without any field of the request
        ({"alive": "chunks", "usage": "chunks"}, {"include_reasoning": False}),
        ({"alive": "chunks", "usage": "chunks", "refuses_chunk_usage": True}, {"include_reasoning": False}),
    ],
    before=FRESH,
)
def test_a_client_that_leaves_again_and_again_pays_for_the_hidden_tokens(
    proxy: Proxy, chutes: Upstream, run: str, options: dict[str, object], fields: dict[str, object]
) -> None:
    prompt = directive(hidden=30_000, hidden_per_second=TOKENS_PER_SECOND, **options)
    leaves = 0
    while leaves < MAX_LEAVES:
        with EventStream(proxy.port, chat(run, prompt, **fields)) as stream:
            if stream.status != 200:
                break
            time.sleep(STAY_SECONDS)
        leaves += 1
        billed = chutes.wait(idle=1, finished=leaves)["billed_nanousd"]
        spent = wait_for_settlement(proxy, run)
        assert billed <= spent <= BUDGET_NANOUSD
        if leaves == 4 and "usage" in options and not options.get("refuses_chunk_usage"):
            assert spent <= 8 * billed, "the usage in the chunks is close to the bill"
    # Where nothing tells how many tokens were generated, a client that leaves pays its whole hold: 30,000
    # tokens of the 74,000.
    assert leaves == WHOLE_HOLDS or not fields or options.get("usage")
    assert chutes.wait(idle=1)["billed_nanousd"] <= proxy.usage(run).spent <= BUDGET_NANOUSD


def wait_for_settlement(proxy: Proxy, run: str) -> int:
    end = time.monotonic() + 10
    while (usage := proxy.usage(run)).held:
        assert time.monotonic() < end, "the call is not settled"
        time.sleep(0.02)
    return usage.spent


@each_row("alive", ["comments", "chunks"], before=FRESH)
def test_an_answer_is_not_lost_while_the_upstream_shows_life(
    proxy: Proxy, chutes: Upstream, run: str, alive: str
) -> None:
    """The model thinks for two seconds; the limit of silence is one second."""
    prompt = directive(hidden=2_000, hidden_per_second=TOKENS_PER_SECOND, alive=alive)
    with EventStream(proxy.port, chat(run, prompt, include_reasoning=False)) as stream:
        *_, last = stream.events()
    assert last == DONE
    assert (
        proxy.usage(run).spent
        == chutes.wait(idle=1)["billed_nanousd"]
        > 2_000 * expected_holds.NANOUSD_PER_TOKEN
    )


def test_an_answer_without_a_sign_of_life_is_cut_and_paid(proxy: Proxy, chutes: Upstream, run: str) -> None:
    prompt = directive(hidden=5_000, hidden_per_second=TOKENS_PER_SECOND)
    with EventStream(proxy.port, chat(run, prompt, include_reasoning=False)) as stream:
        *_, last = stream.events()
    assert last["error"]["code"] == "upstream_timeout"
    assert chutes.wait(idle=1)["billed_nanousd"] <= proxy.usage(run).spent <= BUDGET_NANOUSD


@each_row("stream", [False, True], before=FRESH)
def test_a_gateways_timeout_after_work_is_paid(
    proxy: Proxy, chutes: Upstream, run: str, *, stream: bool
) -> None:
    prompt = directive(fault="gateway_timeout", first_ms=200, billed=True)
    answer = proxy.ask("POST", CHAT, chat(run, prompt, stream=stream, max_tokens=1_000))
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")
    assert 0 < chutes.wait(idle=1)["billed_nanousd"] <= proxy.usage(run).spent


@each_row("stream", [False, True], before=FRESH)
def test_an_error_in_place_of_an_answer_has_its_status_and_costs_nothing(
    proxy: Proxy, chutes: Upstream, run: str, *, stream: bool
) -> None:
    prompt = directive(fault="error_first") + "x" * 10_000
    answer = proxy.ask("POST", CHAT, chat(run, prompt, stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (400, "upstream_rejected")
    assert answer.json["error"]["message"] == "This model's maximum context length is exceeded"
    assert (proxy.usage(run).spent, proxy.usage(run).calls) == (0, 0)
    assert chutes.wait(idle=1)["count"] == 1


def test_an_upstream_that_refuses_the_usage_in_chunks_is_asked_without_it(
    fake_chutes: Upstream, chutes: Upstream, run: str
) -> None:
    with Proxy(fake_chutes) as proxy:
        body = chat(run, directive(refuses_chunk_usage=True), max_tokens=100)
        for _ in range(2):
            assert proxy.ask("POST", CHAT, {**body, "stream": True}).status == 200
        asked = ["continuous_usage_stats" in call["stream_options"] for call in chutes.calls()]
        assert asked == [True, False, False]
        assert proxy.usage(run).calls == 2
        assert len(proxy.lines.wait(logger="ridges_proxy.upstream.chunk_usage")) == 1
