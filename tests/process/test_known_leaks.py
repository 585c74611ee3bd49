"""Requests and upstreams by which runs once cost more than their budget, with the numbers of then."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ridges_proxy.upstream.progress import MEASURED_SECONDS
from tests.process.event_stream import CHAT, DONE, EventStream
from tests.process.scripted_upstream import (
    Response,
    ScriptedUpstream,
    completion,
    delta,
    event,
    usage_of,
    whole,
)
from tests.process.server import INFERENCE, Proxy, wait_until
from tests.support.chat_templates import TEMPLATES, parsed
from tests.support.table import each_row
from tests.support.tokenizers import token_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NANOUSD_PER_TOKEN = 270
AT_ONCE = 32
FRESH = {"upstream": lambda upstream: upstream.reset(), "run": lambda _: uuid4().hex}

ENGLISH = ("the quick brown fox jumps over the lazy dog " * 100)[:4_000]
RESULT = {"role": "tool", "tool_call_id": "1", "content": "x"}
RARE = "\U00013000" * 2_000
"""8,000 bytes, in letters of which each is several tokens."""


@pytest.fixture(scope="module")
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream()


@pytest.fixture(scope="module")
def url(upstream: ScriptedUpstream) -> Iterator[str]:
    with upstream.serving() as address:
        yield address


def proxy_of(url: str, budget_usd: str, idle_seconds: str = "60") -> Proxy:
    return Proxy(
        None,
        CHUTES_BASE_URL=url,
        MAX_COST_PER_RUN=budget_usd,
        IDLE_TIMEOUT_SECONDS=idle_seconds,
        CIRCUIT_FAILURES="0",
    )


# --- prompts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendering_proxy(url: str) -> Iterator[Proxy]:
    with proxy_of(url, "0.20") as started:
        yield started


def calling(name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    return {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def tool_with(parameter: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {parameter: {"default": 1}}}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


LONG_NAMES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "a function's name": ("harmony", 400, {"messages": [calling(ENGLISH), *[RESULT] * 130]}),
    "a function's name of 64 letters": (
        "harmony",
        200,
        {"messages": [calling(ENGLISH[:64]), *[RESULT] * 2_000]},
    ),
    "64 rare letters": ("harmony", 200, {"messages": [calling(RARE[:64]), *[RESULT] * 400]}),
    "the same, with XML escapes": ("kimi", 200, {"messages": [calling("\"'" * 32), *[RESULT] * 400]}),
    "a parameter's name": (
        "hermes",
        200,
        {"messages": [{"role": "user", "content": "x"}], "tools": [tool_with(RARE)]},
    ),
    "a tool at equal messages": (
        "mistral",
        200,
        {"messages": [{"role": "user", "content": "x"}] * 60, "tools": [tool_with(RARE[:60])]},
    ),
}


@each_row("name", LONG_NAMES, before=FRESH)
def test_texts_that_a_template_writes_again_and_again_are_held(
    rendering_proxy: Proxy, upstream: ScriptedUpstream, run: str, name: str
) -> None:
    template, status, body = LONG_NAMES[name]
    prompt_tokens = token_count(TEMPLATES[template](parsed(body["messages"]), body))

    def answer(_: dict[str, Any]) -> Response:
        upstream.bill((prompt_tokens + 16) * NANOUSD_PER_TOKEN)
        return completion(usage=usage_of(prompt_tokens, 16))

    upstream.answer = answer

    def ask(_: int) -> int:
        return rendering_proxy.ask("POST", CHAT, {"run_id": run, "max_tokens": 16, **body}).status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = set(pool.map(ask, range(AT_ONCE)))
    assert statuses <= {status, 402}, "402 where the budget is used up"
    assert status in statuses
    assert upstream.billed_nanousd == rendering_proxy.usage(run).spent <= 200_000_000
    assert rendering_proxy.ready().json["calls"]["settled_above_hold"] == 0


# --- tokens that are not sent ------------------------------------------------------------------------------

HIDDEN_PER_SECOND = 1_000


class Thinking:
    """A streamed answer of hidden tokens, billed when it ends or when the client leaves."""

    def __init__(self, upstream: ScriptedUpstream, tokens: int, alive: Iterable[bytes]) -> None:
        self._upstream, self._tokens, self._alive = upstream, tokens, tuple(alive)

    def __iter__(self) -> Iterator[bytes]:
        started, made = time.monotonic(), 0
        yield event(delta(role="assistant", content=""))
        try:
            while made < self._tokens:
                time.sleep(0.05)
                made = min(self._tokens, int((time.monotonic() - started) * HIDDEN_PER_SECOND))
                yield b"".join(self._alive) or b": \n\n"
            yield event(delta(content="done", finish="stop"))
            yield event({"id": "c", "choices": [], "usage": usage_of(20, made)})
        finally:
            self._upstream.bill((20 + made) * NANOUSD_PER_TOKEN)


def hidden(run: str) -> dict[str, Any]:
    message = {"role": "user", "content": "x"}
    return {"run_id": run, "messages": [message], "max_tokens": 30_000, "include_reasoning": False}


def test_a_client_that_leaves_after_four_seconds_again_and_again_pays_for_hidden_tokens(
    url: str, upstream: ScriptedUpstream, run: str
) -> None:
    upstream.reset()
    upstream.answer = lambda _: Response(Thinking(upstream, 30_000, [b": alive\n\n"]))
    leaves = 0
    with proxy_of(url, "0.02") as proxy:
        while leaves < 18:
            with EventStream(proxy.port, hidden(run)) as stream:
                if stream.status != 200:
                    break
                time.sleep(4)
            leaves += 1
            wait_until(lambda: not proxy.usage(run).held, "the settlement")
            assert upstream.billed_nanousd <= proxy.usage(run).spent <= 20_000_000
        assert 1 < leaves < 18
        assert proxy.ask("POST", CHAT, hidden(run)).status == 402


def test_an_honest_client_of_a_model_that_thinks_gets_its_answer_and_pays_the_bill(
    url: str, upstream: ScriptedUpstream, run: str
) -> None:
    upstream.reset()
    alive = [b": alive\n\n"], [event(delta(content=""))], [event(delta(reasoning_content=""))]
    answers = iter([Response(Thinking(upstream, 4_000, each)) for each in alive])
    upstream.answer = lambda _: next(answers)
    with proxy_of(url, "0.02", "3") as proxy, ThreadPoolExecutor() as pool:

        def ask(number: int) -> Any:  # noqa: ANN401 - any JSON
            with EventStream(proxy.port, hidden(f"{run}-{number}")) as stream:
                return stream.events()[-1]

        assert list(pool.map(ask, range(len(alive)))) == [DONE] * len(alive)
        spent = sum(proxy.usage(f"{run}-{number}").spent for number in range(len(alive)))
        assert spent == upstream.billed_nanousd == len(alive) * 4_020 * NANOUSD_PER_TOKEN


BACKWARD: dict[str, tuple[list[int], int]] = {
    "the last is the smallest": ([100, 300, 50], 300),
    "the last is zero": ([300, 0], 300),
}


@pytest.fixture(scope="module")
def proxy(url: str) -> Iterator[Proxy]:
    with proxy_of(url, "2") as started:
        yield started


@each_row("name, choices", product(BACKWARD, [1, 2]), before=FRESH)
def test_a_usage_in_chunks_that_goes_backwards_makes_no_call_cheaper(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, name: str, choices: int
) -> None:
    reports, billed = BACKWARD[name]

    def events() -> Iterator[bytes]:
        for tokens in reports:
            for index in range(choices):
                chunk = delta(content="x", usage=usage_of(20, tokens))
                chunk["choices"][0]["index"] = index
                yield event(chunk)
            time.sleep(MEASURED_SECONDS)

    upstream.answer = lambda _: Response(events())
    messages = [{"role": "user", "content": "x"}]
    body = {"run_id": run, "messages": messages, "max_tokens": 30_000, "n": choices}
    with EventStream(proxy.port, body) as stream:
        assert stream.events()[-1]["error"]["code"] == "upstream_broken"
    assert (20 + choices * billed) * NANOUSD_PER_TOKEN <= proxy.usage(run).spent


# --- statuses of gateways ----------------------------------------------------------------------------------

TIMED_OUT, BROKEN, FAILED = (504, "upstream_timeout"), (502, "upstream_broken"), (502, "upstream_failed")
AT_CAPACITY, NO_INSTANCE = (429, "upstream_busy"), (503, "upstream_no_instance")

NOTHING_CAME_BACK = {
    **dict.fromkeys((408, 460, 499, 504, 522, 524, 598), TIMED_OUT),
    520: BROKEN,
}
REFUSED = {
    **dict.fromkeys((500, 501, 502, 521, 523, 525, 526, 530), FAILED),
    503: NO_INSTANCE,
    429: AT_CAPACITY,
    529: AT_CAPACITY,
}


@each_row(
    "status, stream, as_status",
    product([*NOTHING_CAME_BACK, *REFUSED], [False, True], [False, True]),
    before=FRESH,
)
def test_a_gateways_status_tells_whether_the_engine_may_have_worked(  # noqa: PLR0913 - the table
    proxy: Proxy, upstream: ScriptedUpstream, run: str, status: int, *, stream: bool, as_status: bool
) -> None:
    error = {"error": {"message": "no answer", "code": status}}
    in_place = Response([event(error)]) if stream else whole(error)
    upstream.answer = lambda _: whole(error, status) if as_status else in_place
    body = {"run_id": run, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1_000}
    before = proxy.ask("POST", "/v1/estimate", body).json
    answer = proxy.ask("POST", CHAT, {**body, "stream": stream})
    expected = {**NOTHING_CAME_BACK, **REFUSED}[status]
    assert (answer.status, answer.json["error"]["code"]) == expected
    hold = round(before["most_cost_usd"] * 10**9)
    assert hold > 1_000 * NANOUSD_PER_TOKEN
    assert proxy.usage(run).spent == (hold if status in NOTHING_CAME_BACK else 0)


@each_row("status", [*NOTHING_CAME_BACK], before=FRESH)
def test_agents_pay_for_a_gateways_timeout_too(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, status: int
) -> None:
    upstream.answer = lambda _: whole({"detail": "no answer"}, status)
    answer = proxy.ask("POST", INFERENCE, {"run_id": run, "messages": [{"role": "user", "content": "x"}]})
    assert answer.outcome == (500, NOTHING_CAME_BACK[status][1])
    assert proxy.usage(run).spent > 1_024 * NANOUSD_PER_TOKEN
