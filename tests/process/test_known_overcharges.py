"""Requests and upstreams by which honest runs were once charged or refused too much."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from bench.overspend.proxy_gateway import Deployment, proxy_gateway
from bench.utilisation.__main__ import make_cases, make_models, settings
from bench.utilisation.agents import AGENTS
from bench.utilisation.model import Call, order
from bench.utilisation.proxy_gate import ProxyGate
from bench.utilisation.trial import exact_nanousd, run_case
from bench.utilisation.upstream import upstream as server_of
from tests.process.event_stream import CHAT
from tests.process.scripted_upstream import (
    Response,
    ScriptedUpstream,
    completion,
    delta,
    event,
    stream,
    usage_of,
    whole,
)
from tests.process.server import INFERENCE, Proxy
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.utilisation.agents import Agent
    from bench.utilisation.texts import Writer
    from tests.process.wire import Answer

NANOUSD_PER_TOKEN = 270
FRESH = {"upstream": lambda upstream: upstream.reset(), "run": lambda _: uuid4().hex}
FORMS = ("whole", "stream", "agents")


@pytest.fixture(scope="module")
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream()


@pytest.fixture(scope="module")
def proxy(upstream: ScriptedUpstream) -> Iterator[Proxy]:
    with (
        upstream.serving() as url,
        Proxy(None, CHUTES_BASE_URL=url, CHUTES_EMBEDDING_URL=url, CIRCUIT_FAILURES="0") as started,
    ):
        yield started


def ask(proxy: Proxy, run: str, form: str, prompt: str = "x", max_tokens: int = 1_024) -> Answer:
    """Make a call in one of FORMS."""
    body: dict[str, Any] = {"run_id": run, "messages": [{"role": "user", "content": prompt}]}
    if form == "agents":
        return proxy.ask("POST", INFERENCE, body)
    return proxy.ask("POST", CHAT, {**body, "max_tokens": max_tokens, "stream": form == "stream"})


# --- answers with long tokens ------------------------------------------------------------------------------

RUSSIAN = "Сначала прочитаем файл, потом исправим ошибку. " * 20

LONG_TOKENS: dict[str, tuple[list[str], int]] = {
    "30 lines of 120 #": (["#" * 120 + "\n"] * 30, 150),
    "60 closing braces, indented": ([" " * 4 * depth + "}\n" for depth in reversed(range(60))], 64),
    "128 spaces a token": ([" " * 128] * 50, 50),
    "emoji": (["\U0001f468\u200d\U0001f469\u200d\U0001f467"] * 100, 1_000),
    "base64": (["QUJDREVG" * 8] * 40, 1_024),
    "one letter, again and again": (["a" * 80] * 50, 500),
    "Russian": (RUSSIAN.split(" "), 300),
}


@each_row("name, form", product(LONG_TOKENS, FORMS), before=FRESH)
def test_an_answer_with_long_tokens_is_whole_and_costs_its_usage(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, name: str, form: str
) -> None:
    pieces, tokens = LONG_TOKENS[name]
    usage = usage_of(30, tokens)
    if form == "whole":
        upstream.answer = lambda _: completion("".join(pieces), usage)
    else:
        upstream.answer = lambda _: stream(*[delta(content=piece) for piece in pieces], usage=usage)
    answer = ask(proxy, run, form, max_tokens=tokens)
    assert answer.status == 200
    assert b'"error"' not in answer.body
    assert proxy.usage(run).spent == (30 + tokens) * NANOUSD_PER_TOKEN


@each_row("form", FORMS, before=FRESH)
def test_reasoning_that_is_sent_under_two_names_costs_its_usage(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, form: str
) -> None:
    def twice(text: str) -> dict[str, str]:
        return {"reasoning": text, "reasoning_content": text}

    def once(text: str) -> dict[str, str]:
        return {"reasoning_content": text}

    def answer_of(names: Callable[[str], dict[str, str]], usage: object) -> Response:
        if form == "whole":
            return completion("42", usage, **names(RUSSIAN))
        chunks = [delta(**names(word)) for word in RUSSIAN.split(" ")]
        return stream(*chunks, delta(content="42"), usage=usage)

    def cost(names: Callable[[str], dict[str, str]], usage: object) -> int:
        upstream.answer = lambda _: answer_of(names, usage)
        before = proxy.usage(run).spent
        assert ask(proxy, run, form, max_tokens=8_192).status == 200
        return proxy.usage(run).spent - before

    assert cost(twice, usage_of(30, 300)) == 330 * NANOUSD_PER_TOKEN
    assert cost(twice, None) == cost(once, None), "without a usage, the text counts once"


# --- usages ------------------------------------------------------------------------------------------------

USAGES: dict[str, object] = {
    "whole floats": {"prompt_tokens": 10.0, "completion_tokens": 5.0, "total_tokens": 15.0},
    "input and output": {"input_tokens": 10, "output_tokens": 5},
    "input and output, whole floats": {"input_tokens": 10.0, "output_tokens": 5.0},
    "digits": {"prompt_tokens": "10", "completion_tokens": "5", "total_tokens": "15"},
    "nulls beside": {**usage_of(10, 5), "prompt_tokens_details": None, "completion_tokens_details": None},
    "no total": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": None},
    "two forms, one filled": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    | {"input_tokens": 10, "output_tokens": 5},
}


@each_row("name, form", product(USAGES, FORMS), before=FRESH)
def test_a_usage_in_another_form_is_read(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, name: str, form: str
) -> None:
    usage = USAGES[name]
    upstream.answer = lambda _: (
        completion(usage=usage) if form == "whole" else stream(delta(content="Hi"), usage=usage)
    )
    assert ask(proxy, run, form).status == 200
    assert proxy.usage(run).spent == 15 * NANOUSD_PER_TOKEN


# --- errors in place of an answer --------------------------------------------------------------------------

TOO_LONG = "This model's maximum context length is 131072 tokens, however you requested 150016"
LONG_PROMPT = "x = y\n" * 100_000
"""600 kB."""

ERROR_OBJECTS: dict[str, object] = {
    "an error with a code": {"error": {"message": TOO_LONG, "code": 400}},
    "vLLM": {"error": {"message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400}},
    "vLLM and SGLang, earlier": {"object": "error", "message": TOO_LONG, "type": "BadRequest", "code": 400},
    "SGLang": {"error": {"object": "error", "message": TOO_LONG, "type": "BAD_REQUEST", "code": 400}},
    "OpenAI": {"error": {"message": TOO_LONG, "type": "x", "code": "context_length_exceeded"}},
    "OpenAI, no code": {"error": {"message": TOO_LONG, "type": "invalid_request_error", "code": None}},
    "digits": {"error": {"message": TOO_LONG, "code": "400"}},
    "a whole float": {"error": {"message": TOO_LONG, "code": 400.0}},
    "a text and a code": {"error": TOO_LONG, "code": 400},
    "TGI": {"error": TOO_LONG, "error_type": "validation"},
    "Chutes": {"status": 400, "detail": TOO_LONG},
    "a list of details": {"status": 422, "detail": [{"loc": ["body"], "msg": TOO_LONG}]},
    "beside an empty choice": {
        "error": {"message": TOO_LONG, "code": 400},
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}],
    },
}
PLACES = ("whole", "whole, asked for a stream", "event", "event and [DONE]", "line", "behind a comment")


@each_row("name, place", product(ERROR_OBJECTS, PLACES), before=FRESH)
def test_an_error_in_place_of_an_answer_has_its_status_and_its_words_and_costs_nothing(
    proxy: Proxy, upstream: ScriptedUpstream, run: str, name: str, place: str
) -> None:
    error = ERROR_OBJECTS[name]
    responses = {
        "event": Response([event(error)]),
        "event and [DONE]": Response([event(error), event(b"[DONE]")]),
        "line": Response([whole(error).body, b"\n"]),  # type: ignore[list-item] # it is no stream
        "behind a comment": Response([b": ping\n\n", b"event: error\n" + event(error)]),
    }
    upstream.answer = lambda _: responses.get(place, whole(error))
    form = "whole" if place == "whole" else "stream"
    prompt = LONG_PROMPT if name == "an error with a code" else "x"
    answer = ask(proxy, run, form, prompt)
    code = "context_length_exceeded" if name == "OpenAI" else "upstream_rejected"
    assert (answer.status, answer.json["error"]["code"]) == (400, code)
    assert answer.json["error"]["message"] == TOO_LONG
    assert (proxy.usage(run).spent, proxy.usage(run).calls) == (0, 0)


# --- limits of calls ---------------------------------------------------------------------------------------


def test_calls_refused_because_others_are_in_flight_use_up_no_rate_limit(
    upstream: ScriptedUpstream, run: str
) -> None:
    upstream.reset()
    started, may_end = threading.Event(), threading.Event()

    def answer(_: object) -> Response:
        started.set()
        assert may_end.wait(20)
        return completion(usage=usage_of(10, 5))

    upstream.answer = answer
    limits: dict[str, Any] = {"MAX_CONCURRENT_CALLS_PER_RUN": "1", "RATE_LIMIT_PER_RUN": "3/minute"}
    with (
        upstream.serving() as url,
        Proxy(None, CHUTES_BASE_URL=url, CHUTES_EMBEDDING_URL=url, **limits) as proxy,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(ask, proxy, run, "whole")
        assert started.wait(20)
        refused = [ask(proxy, run, "whole").json["error"]["code"] for _ in range(20)]
        assert refused == ["too_many_in_flight"] * 20
        may_end.set()
        assert first.result().status == 200
        assert [ask(proxy, run, "whole").status for _ in range(3)] == [200, 200, 429]
    assert len(upstream.requests) == 3


# --- holds -------------------------------------------------------------------------------------------------


def source_code(writer: Writer) -> Agent:
    """A conversation that grows by 2 to 12 kB a step, most of it source code."""
    messages = [{"role": "system", "content": writer.english(1_500)}]
    while True:
        result = order(writer.mixed(writer.size(2_000, 12_000)), writer.size(40, 300))
        messages.append({"role": "user", "content": result})
        (answer,) = yield [Call(tuple(messages), 4_096)]
        messages.append({"role": "assistant", "content": answer})


def test_a_conversation_that_grows_can_use_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.10 USD at 0.27 USD a million tokens, and 2.00 USD at 3 and 15. One step of an agent is up to 10 %."""
    monkeypatch.setitem(AGENTS, source_code.__name__, source_code)
    models = make_models(["o200k"])
    with (
        server_of(models) as server,
        proxy_gateway(server.url, Deployment("memory", 1, 1), settings(server)) as gateway,
    ):
        gate = ProxyGate(gateway, server.meter)
        cases = make_cases(models, [source_code.__name__], 4)
        results = [run_case(case, gate, exact_nanousd(case)) for case in cases]
    assert {result.overspend_nanousd for result in results} == {0}
    assert min(result.utilisation for result in results) > 0.85
    assert mean(result.utilisation for result in results) >= 0.98
