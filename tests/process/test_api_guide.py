"""The Python examples of docs/reference/api.md for an agent's author: first call, cost, failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import openai
import pytest
import requests

from ridges_proxy.auth.run_tokens import RunTokens
from tests.process.event_stream import EventStream
from tests.process.examples import blocks
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, Proxy
from tests.support.app import PROXY_KEY
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

WORDS = "word1 word2 word3 word4 word5 "
KEY = "the-secret-of-run-tokens-in-tests"
TOO_EXPENSIVE = "x" * 5_000
"""A prompt of up to 5,000 tokens; 0.001 USD buys 3,703."""

FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with a small budget, where a call that has to wait for others is refused soon."""
    with Proxy(
        fake_chutes,
        MAX_COST_PER_RUN="0.001",
        HOLD_WAIT_SECONDS="0.1",
        CIRCUIT_FAILURES="0",
        RUN_TOKEN_KEY=KEY,
    ) as started:
        yield started


def guide() -> dict[str, Any]:
    """Run the blocks that define functions. Return their names."""
    names: dict[str, Any] = {}
    for block in blocks("reference/api.md", "py")[2:]:
        exec(block, names)
    return names


class Asking:
    """The functions of the page, for one run: each gets the texts of messages."""

    def __init__(self, proxy: Proxy, run: str) -> None:
        self._names, self._run, self._url = guide(), run, f"http://127.0.0.1:{proxy.port}"
        self._client = openai.OpenAI(
            base_url=f"{self._url}/v1", api_key=PROXY_KEY, default_headers={"X-Run-Id": run}
        )

    def ask(self, text: str, **options: float) -> str | None:
        answer: str | None = self._names["ask"](self._client, self._messages(text), **options)
        return answer

    def infer(self, text: str) -> str | None:
        answer: str | None = self._names["infer"](self._url, PROXY_KEY, self._run, self._messages(text))
        return answer

    def work_and_submit(self, steps: list[str], summary: str) -> str | None:
        work = self._names["work_and_submit"]
        answer: str | None = work(self._client, map(self._messages, steps), self._messages(summary))
        return answer

    def _messages(self, text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{CANARY} {text}"}]


def test_the_first_call_prints_the_answer_and_the_second_its_cost(
    shared_proxy: Proxy, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for block in blocks("reference/api.md", "py")[:2]:
        here = block.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{shared_proxy.port}")
        exec(here.replace("demo-proxy-key", PROXY_KEY).replace("run-1", run), names)
    answer, cost = capsys.readouterr().out.splitlines()
    assert answer == WORDS
    spent, remaining = (float(amount) for amount in cost.split())
    assert spent == shared_proxy.usage(run).spent / 10**9 > 0
    assert remaining == pytest.approx(2 - spent)


@each_row("function", ["ask", "infer"], before=FRESH)
def test_an_answer_is_returned_and_a_spent_budget_is_none_after_one_request(
    proxy: Proxy, chutes: Upstream, run: str, function: str
) -> None:
    call = getattr(Asking(proxy, run), function)
    assert call("hi") == WORDS
    assert call(TOO_EXPENSIVE) is None
    assert len(proxy.lines.wait(2, event="request", run=run)) == 2
    assert len(chutes.calls()) == 1


NEARLY_ALL = directive(usage={"prompt_tokens": 10, "completion_tokens": 3_200, "total_tokens": 3_210})
"""A call that costs 87 % of the budget, as the upstream reports it."""


@each_row("ends", [TOO_EXPENSIVE, NEARLY_ALL], before=FRESH)
def test_an_agent_submits_after_the_first_step_that_shows_the_end_of_its_budget(
    proxy: Proxy, chutes: Upstream, run: str, ends: str
) -> None:
    assert Asking(proxy, run).work_and_submit(["hi", ends, "never"], "submit") == WORDS
    assert len(chutes.calls()) == (2 if ends == TOO_EXPENSIVE else 3), (
        "the call that is too expensive is not sent"
    )
    assert len(proxy.lines.wait(3, event="request", run=run)) == 3


def test_an_agent_that_streams_submits_with_the_part_that_its_token_keeps(
    proxy: Proxy, chutes: Upstream, run: str
) -> None:
    token, _ = RunTokens(KEY, None).issue(run, 600, budget_usd="0.001", reserve_final_usd="0.0002")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key=token)
    pieces = guide()["stream_and_submit"](
        client,
        ([{"role": "user", "content": f"{CANARY} {text}"}] for text in ("hi", TOO_EXPENSIVE, "never")),
        [{"role": "user", "content": f"{CANARY} submit"}],
    )
    assert "".join(pieces) == 2 * WORDS
    assert [line.get("code") for line in proxy.lines.wait(3, event="request", run=run)] == [
        None,
        "budget_exhausted",
        None,
    ]
    assert len(chutes.calls()) == 2


@each_row("function", ["ask", "infer"], before=FRESH)
def test_a_busy_run_is_asked_again_and_answers(
    proxy: Proxy, chutes: Upstream, run: str, function: str
) -> None:
    holder = {
        "run_id": run,
        "messages": [{"role": "user", "content": f"{CANARY} {directive(gate='busy', gate_at=1)}"}],
        "max_tokens": 100_000,
    }
    with ThreadPoolExecutor(1) as pool, EventStream(proxy.port, holder) as stream:
        chutes.wait(at_gate=1)
        answer = pool.submit(getattr(Asking(proxy, run), function), "hi")
        proxy.lines.wait(event="request", run=run, code="run_busy")
        chutes.release("busy")
        stream.events()
        assert answer.result() == WORDS


@each_row(
    "fault, status", [("no_instances", 503), ("auth_invalid", 502), ("invalid_request", 400)], before=FRESH
)
def test_a_failure_that_lasts_or_cannot_be_repeated_is_raised(
    proxy: Proxy, chutes: Upstream, run: str, fault: str, status: int
) -> None:
    """The first may be repeated, but only after more than a second. The others may not be repeated."""
    with pytest.raises(openai.APIStatusError) as raised:
        Asking(proxy, run).ask(directive(fault=fault), patience_seconds=1)
    assert raised.value.status_code == status
    assert len(chutes.calls()) == 1


def test_a_faulty_request_to_agents_is_raised(proxy: Proxy, run: str) -> None:
    messages = [{"role": "unknown"}]
    with pytest.raises(requests.HTTPError) as raised:
        guide()["infer"](f"http://127.0.0.1:{proxy.port}", PROXY_KEY, run, messages)
    assert raised.value.response.status_code == 422
