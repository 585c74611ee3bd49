"""OpenAI's official client against a server: its usual requests, and every error that it raises."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import new_run, reset
from tests.process.server import CANARY, Proxy
from tests.support.app import PROXY_KEY
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

    from tests.process.fake_chutes_control import Upstream

MODEL = "deepseek-ai/DeepSeek-V3-0324"
EMBEDDING_MODEL = "BAAI/bge-large-en-v1.5"
WORDS = "word1 word2 word3 word4 word5 "
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("read_file", "run_tests")
]


def user_message(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"{CANARY} {text}"}]


def options_of(proxy: Proxy, run: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - the client's own options
    return {
        "base_url": f"http://127.0.0.1:{proxy.port}/v1",
        "api_key": PROXY_KEY,
        "default_headers": {"X-Run-Id": run},
        "max_retries": 0,
        **changed,
    }


@pytest.fixture
def client(shared_proxy: Proxy, chutes: Upstream, run: str) -> Iterator[OpenAI]:  # noqa: ARG001 - resets the fake Chutes
    with OpenAI(**options_of(shared_proxy, run)) as made:
        yield made


# --- successful calls ---------------------------------------------------------------------------------------


def test_a_completion_is_answered_and_charged(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=user_message("hi"), max_tokens=50)
    assert completion.choices[0].message.content == WORDS
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 5
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_a_stream_with_its_usage_is_answered_and_charged(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=user_message("hi"), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WORDS
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 5
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_the_usage_has_the_cost_of_the_call_if_the_client_asks_for_it(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": user_message("hi"),
        "n": 2,
        "extra_body": {"usage": {"include": True}},
    }
    whole = client.chat.completions.create(**asked)
    *_, last = list(client.chat.completions.create(**asked, stream=True))
    costs = [round(each.usage.model_extra["cost"] * 1e9) for each in (whole, last)]
    assert sum(costs) == shared_proxy.usage(run).spent == chutes.wait(idle=2)["billed_nanousd"] > 0


def test_a_stream_without_usage_has_choices_in_every_chunk(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=user_message("hi"), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_closing_a_stream_early_ends_the_upstream_call(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=user_message(directive(gate="left", gate_at=2)), stream=True
    )
    with stream:
        assert next(iter(stream)).choices[0].delta.role == "assistant"
    chutes.wait(client_gone=1)
    assert shared_proxy.lines.wait(event="request", run=run)[0]["code"] == "client_gone"


def test_tool_calls_and_their_results(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model=MODEL, messages=user_message(directive(tool_calls=2)), tools=TOOLS, tool_choice="auto"
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    assert [call.function.name for call in message.tool_calls if call.type == "function"] == [
        "read_file",
        "run_tests",
    ]
    messages: list[Any] = [
        *user_message("go on"),
        message.model_dump(),
    ]  # with all its nulls, as many agents send it
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert second.choices[0].message.content == WORDS


def test_parallel_tool_calls_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=user_message(directive(tool_calls=2)), tools=TOOLS, parallel_tool_calls=True
    ) as stream:
        completion = stream.get_final_completion()
    calls = completion.choices[0].message.tool_calls
    assert calls
    assert [call.function.name for call in calls] == ["read_file", "run_tests"]
    assert all(isinstance(json.loads(call.function.arguments), dict) for call in calls)


def test_a_response_format_of_json_is_passed_on(client: OpenAI, chutes: Upstream) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=user_message("in JSON"), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)
    assert chutes.calls()[0]["body"]["response_format"] == {"type": "json_object"}


def test_logprobs_choices_and_reasoning_are_parsed(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=user_message(directive(reasoning=2)), n=2, logprobs=True, top_logprobs=1, seed=7
    )
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert all(choice.logprobs and choice.logprobs.content for choice in completion.choices)
    assert completion.choices[0].message.to_dict()["reasoning_content"]


def test_a_message_may_contain_images_and_text(client: OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "https://images.test/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert completion.choices[0].message.content == WORDS


def test_embeddings_in_the_default_encoding_equal_those_in_plain_numbers(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    default = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])
    plain = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"], encoding_format="float")
    assert [each.index for each in default.data] == [0, 1]
    assert [len(each.embedding) for each in default.data] == [1024, 1024]
    assert [each.embedding for each in default.data] == [each.embedding for each in plain.data]
    assert client.embeddings.create(model=EMBEDDING_MODEL, input="one").data[0].embedding == (
        plain.data[0].embedding
    )
    assert plain.usage.total_tokens > 0
    assert shared_proxy.usage(run).embedding >= chutes.wait(idle=1)["billed_nanousd"] > 0


def test_a_list_that_is_longer_than_the_upstreams_batch_is_embedded_in_one_call(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    texts = [f"text {number}" for number in range(70)]
    several = client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    last = client.embeddings.create(model=EMBEDDING_MODEL, input=texts[-1])
    assert (len(several.data), several.data[-1].embedding) == (70, last.data[0].embedding)
    assert chutes.wait(idle=4)["count"] == 4
    assert shared_proxy.usage(run).calls == 2


def test_the_models_are_listed_with_their_prices(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, EMBEDDING_MODEL]
    model = client.models.retrieve(MODEL).to_dict()
    assert model["pricing"] == {"prompt": 0.27, "completion": 0.27}


def test_raw_responses_have_the_headers_and_lines_of_the_proxy(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=user_message("hi"))
    assert float(raw.headers["x-run-cost-usd"]) > 0
    assert raw.parse().choices[0].message.content == WORDS
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=user_message("hi"), stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["x-accel-buffering"] == "no"
    assert lines[-2] == "data: [DONE]"
    assert lines[-1].startswith(": cost ")


def test_the_async_client_makes_20_calls_at_once(shared_proxy: Proxy, chutes: Upstream, run: str) -> None:
    async def many() -> list[str]:
        async with AsyncOpenAI(**options_of(shared_proxy, run)) as client:

            async def one() -> str:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=user_message("hi"), stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(many()) == [WORDS] * 20
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"]


# --- failed calls -------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[type[openai.APIStatusError], int, str]] = {
    "invalid_request": (openai.BadRequestError, 400, "upstream_rejected"),
    "auth_invalid": (openai.InternalServerError, 502, "upstream_auth"),
    "quota": (openai.InternalServerError, 502, "upstream_quota"),
    "model_not_found": (openai.InternalServerError, 502, "upstream_model"),
    "at_capacity": (openai.RateLimitError, 429, "upstream_busy"),
    "no_instances": (openai.InternalServerError, 503, "upstream_no_instance"),
    "exhausted": (openai.InternalServerError, 502, "upstream_failed"),
    "close": (openai.InternalServerError, 502, "upstream_broken"),
}


@each_row("stream", [False, True], before={"chutes": reset})
@each_row("fault", ERRORS, before={"chutes": reset})
def test_an_upstream_error_before_the_answer_raises_the_usual_exception(
    client: OpenAI, chutes: Upstream, fault: str, *, stream: bool
) -> None:
    kind, status, code = ERRORS[fault]
    with pytest.raises(kind) as raised:
        client.chat.completions.create(
            model=MODEL, messages=user_message(directive(fault=fault)), stream=stream
        )
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert raised.value.request_id == raised.value.response.headers["x-request-id"]
    assert len(chutes.calls()) == 1


def test_an_upstream_error_during_a_stream_is_raised_by_its_iterator(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=user_message(directive(fault="error_line", after=2)), stream=True
    )
    seen: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        seen += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert raised.value.code == "upstream_broken"


def test_an_upstream_timeout_is_raised_as_504(brief_proxy: Proxy, run: str) -> None:
    with (
        OpenAI(**options_of(brief_proxy, run)) as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model=MODEL, messages=user_message(directive(fault="hang")))
    assert (raised.value.status_code, raised.value.code) == (504, "upstream_timeout")


def test_an_invalid_request_raises_an_exception_that_names_the_parameter(
    client: OpenAI, shared_proxy: Proxy, run: str
) -> None:
    create: Any = client.chat.completions.create
    for wrong, param in (
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 1000}, "n"),
        ({"temperature": 9}, "temperature"),
        ({"extra_body": {"best_of": 5}}, "best_of"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"messages": []}, "messages"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            create(**{"model": MODEL, "messages": user_message("hi"), **wrong})
        assert (raised.value.param, raised.value.code) == (param, "invalid_request")
        assert param in raised.value.message
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-4o", messages=user_message("hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    assert shared_proxy.usage(run).calls == 0


def test_a_wrong_key_raises_an_authentication_error(shared_proxy: Proxy, run: str) -> None:
    with (
        OpenAI(**options_of(shared_proxy, run, api_key="wrong")) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_a_body_that_is_too_large_is_raised_as_413(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=MODEL, messages=user_message("x" * (5 << 20)))
    assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")


# --- limits of a run, with the client's usual retries ------------------------------------------------------


TOO_EXPENSIVE = "x" * 5_000
"""A prompt of up to 5,000 tokens; 0.001 USD buys 3,703."""


@pytest.fixture(scope="module")
def limited_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with one call at a time for a run, and a budget that is below the cost of TOO_EXPENSIVE."""
    with Proxy(fake_chutes, MAX_COST_PER_RUN="0.001", MAX_CONCURRENT_CALLS_PER_RUN="1") as started:
        yield started


def requests_of(proxy: Proxy, run: str) -> int:
    return sum(f'"run":"{run}"' in line and '"event":"request"' in line for line in proxy.lines.raw)


@each_row("stream", [False, True], before={"run": new_run})
def test_an_exhausted_budget_is_not_retried(limited_proxy: Proxy, run: str, *, stream: bool) -> None:
    with (
        OpenAI(**options_of(limited_proxy, run, max_retries=2)) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.chat.completions.create(model=MODEL, messages=user_message(TOO_EXPENSIVE), stream=stream)
    assert (raised.value.status_code, raised.value.code) == (402, "budget_exhausted")
    assert raised.value.type == "insufficient_quota"
    limited_proxy.lines.wait(event="request", run=run)
    assert requests_of(limited_proxy, run) == 1


def test_too_many_calls_in_flight_is_retried_after_the_given_time(
    limited_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with (
        OpenAI(**options_of(limited_proxy, run, max_retries=2)) as client,
        client.chat.completions.create(
            model=MODEL, messages=user_message(directive(gate="first", gate_at=1)), stream=True
        ) as first,
    ):
        next(iter(first))
        with pytest.raises(openai.RateLimitError) as raised:
            client.with_options(max_retries=0).chat.completions.create(
                model=MODEL, messages=user_message("hi")
            )
        assert raised.value.code == "too_many_in_flight"
        assert raised.value.response.headers["retry-after"] == "1"
        chutes.release("first")
        list(first)
        assert client.chat.completions.create(model=MODEL, messages=user_message("hi")).choices
