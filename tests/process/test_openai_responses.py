"""OpenAI's official client on `/v1/responses`: answers, streams, tools, structured output, and errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import new_run, reset
from tests.process.server import CANARY, Proxy
from tests.process.test_openai_client import ERRORS, MODEL, TOO_EXPENSIVE, WORDS, options_of, requests_of
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.responses import FunctionToolParam, ResponseInputParam

    from tests.process.fake_chutes_control import Upstream

PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS: list[FunctionToolParam] = [
    {"type": "function", "name": name, "parameters": {**PARAMETERS, "required": []}, "strict": True}
    for name in ("read_file", "run_tests")
]


class Sentence(BaseModel):
    """A structured answer."""

    text: str


def prompt(**instructions: object) -> str:
    return f"{CANARY} {directive(**instructions)}"


@pytest.fixture
def client(shared_proxy: Proxy, chutes: Upstream, run: str) -> Iterator[OpenAI]:  # noqa: ARG001 - resets the fake Chutes
    with OpenAI(**options_of(shared_proxy, run)) as made:
        yield made


# --- successful calls ---------------------------------------------------------------------------------------


def test_a_response_is_answered_and_charged(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    response = client.responses.create(
        model=MODEL, input="hi", instructions="Be brief", max_output_tokens=50, store=True
    )
    assert (response.output_text, response.status) == (WORDS, "completed")
    assert response.to_dict()["store"] is False
    assert response.usage
    assert response.usage.total_tokens == response.usage.input_tokens + 5
    assert response.tools == []
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0
    assert chutes.calls()[0]["body"]["max_tokens"] == 50


def test_a_stream_is_answered_and_charged(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with client.responses.stream(model=MODEL, input=prompt(reasoning=2)) as stream:
        events = list(stream)
        response = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    reasoning = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(texts) == response.output_text == WORDS
    assert len(reasoning) == 2
    assert response.usage
    assert response.usage.output_tokens == 7
    assert shared_proxy.usage(run).spent == chutes.wait(idle=1)["billed_nanousd"] > 0


def test_parallel_calls_of_tools_in_a_stream_and_their_results(client: OpenAI) -> None:
    with client.responses.stream(
        model=MODEL, input=prompt(tool_calls=2, reasoning=1), tools=TOOLS, parallel_tool_calls=True
    ) as stream:
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["read_file", "run_tests"]
    assert all(isinstance(json.loads(call.arguments), dict) for call in calls)
    # With all their fields, as many agents send them.
    history: Any = [{"role": "user", "content": "go on"}, *(item.model_dump() for item in response.output)]
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls]
    again = client.responses.create(model=MODEL, input=history, tools=TOOLS)
    assert again.output_text == WORDS


def test_a_conversation_goes_on_with_the_items_of_the_answer(client: OpenAI, chutes: Upstream) -> None:
    first = client.responses.create(model=MODEL, input="hi")
    history: ResponseInputParam = [{"role": "user", "content": "hi"}]
    history += [item.to_dict() for item in first.output]  # type: ignore[misc] # dicts of its own types
    client.responses.create(model=MODEL, input=[*history, {"role": "user", "content": "more"}])
    first_prompt, second_prompt = [call["prompt_tokens"] for call in chutes.calls()]
    assert second_prompt > first_prompt


def test_a_structured_answer_is_parsed(client: OpenAI, chutes: Upstream) -> None:
    response = client.responses.parse(
        model=MODEL, input=prompt(answer='{"text": "Hi"}'), text_format=Sentence
    )
    assert response.output_parsed == Sentence(text="Hi")
    assert chutes.calls()[0]["body"]["response_format"]["json_schema"]["name"] == "Sentence"


def test_an_answer_that_is_cut_is_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="hi", max_output_tokens=2)
    assert response.incomplete_details
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    *_, last = client.responses.create(model=MODEL, input="hi", max_output_tokens=2, stream=True)
    assert last.type == "response.incomplete"
    assert last.response.output_text == "word1 word2 "


def test_an_image_is_passed_on(client: OpenAI) -> None:
    image: Any = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    parts = [{"type": "input_text", "text": "what is this?"}, image]
    response = client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    assert response.output_text == WORDS


def test_closing_a_stream_early_ends_the_upstream_call(
    client: OpenAI, shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    with client.responses.create(model=MODEL, input=prompt(gate="left", gate_at=2), stream=True) as stream:
        assert next(iter(stream)).type == "response.created"
    chutes.wait(client_gone=1)
    assert shared_proxy.lines.wait(event="request", run=run)[0]["code"] == "client_gone"
    assert shared_proxy.usage(run).held == 0


# --- failed calls -------------------------------------------------------------------------------------------


@each_row("stream", [False, True], before={"chutes": reset})
@each_row("fault", ERRORS, before={"chutes": reset})
def test_an_upstream_error_before_the_answer_raises_the_usual_exception(
    client: OpenAI, chutes: Upstream, fault: str, *, stream: bool
) -> None:
    kind, status, code = ERRORS[fault]
    with pytest.raises(kind) as raised:
        client.responses.create(model=MODEL, input=prompt(fault=fault), stream=stream)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert len(chutes.calls()) == 1


def test_an_upstream_error_during_a_stream_is_raised_by_its_iterator(client: OpenAI) -> None:
    seen: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        seen += [
            event.type
            for event in client.responses.create(
                model=MODEL, input=prompt(fault="error_line", after=2), stream=True
            )
        ]
    assert raised.value.code == "upstream_broken"


def test_what_is_not_served_is_a_bad_request_that_names_the_parameter(
    client: OpenAI, shared_proxy: Proxy, run: str
) -> None:
    create: Any = client.responses.create
    for wrong, param in (
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "1"}]}]}, None),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            create(**{"model": MODEL, "input": "hi", **wrong})
        assert (raised.value.param, raised.value.code) == (
            param or "input[0].content[0].type",
            "invalid_request",
        )
    with pytest.raises(openai.NotFoundError):
        create(model="gpt-4o", input="hi")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
    assert shared_proxy.usage(run).calls == 0


@pytest.fixture(scope="module")
def limited_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with short waits, and a budget that is below the cost of TOO_EXPENSIVE."""
    with Proxy(fake_chutes, MAX_COST_PER_RUN="0.001", HOLD_WAIT_SECONDS="0.1") as started:
        yield started


@each_row("stream", [False, True], before={"run": new_run})
def test_an_exhausted_budget_is_not_retried(limited_proxy: Proxy, run: str, *, stream: bool) -> None:
    with (
        OpenAI(**options_of(limited_proxy, run, max_retries=2)) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.responses.create(model=MODEL, input=TOO_EXPENSIVE, stream=stream)
    assert (raised.value.status_code, raised.value.code) == (402, "budget_exhausted")
    limited_proxy.lines.wait(event="request", run=run)
    assert requests_of(limited_proxy, run) == 1


def test_a_busy_run_is_told_to_try_again(limited_proxy: Proxy, chutes: Upstream, run: str) -> None:
    with (
        OpenAI(**options_of(limited_proxy, run)) as client,
        client.responses.create(model=MODEL, input=prompt(gate="busy", gate_at=1), stream=True) as first,
    ):
        next(iter(first))
        with pytest.raises(openai.RateLimitError) as raised:
            client.responses.create(model=MODEL, input="x" * 1_000)
        chutes.release("busy")
        assert list(first)[-1].type == "response.completed"
    assert raised.value.code == "run_busy"
    assert raised.value.response.headers["Retry-After"]
