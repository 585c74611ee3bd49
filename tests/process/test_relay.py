"""The relay of `/v1`: every event is sent at once, complete and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.process.event_stream import DONE, EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, Proxy
from tests.support.chutes import emptied
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

EVENTS = 8
FRESH = {"chutes": emptied, "run": lambda _: uuid4().hex}
"""Each row of a table has its own run, and a fake Chutes without earlier calls."""


def chat(run: str, prompt: str, **fields: object) -> dict[str, Any]:
    return {"run_id": run, "messages": [{"role": "user", "content": f"{CANARY} {prompt}"}], **fields}


def test_the_client_sees_an_event_before_the_next_one_is_sent(
    shared_proxy: Proxy, chutes: Upstream, run: str
) -> None:
    prompt = directive(events=EVENTS, step="relay")
    with EventStream(shared_proxy.port, chat(run, prompt)) as stream:
        assert stream.event()["choices"][0]["delta"]["role"] == "assistant"
        for number in range(1, EVENTS + 1):
            chutes.wait(at_gate=1)  # the fake Chutes waits before this event, and has sent no later one
            assert chutes.calls()[0]["completion_tokens"] == number - 1
            chutes.step("relay")
            assert stream.words(1) == [f"word{number} "]
        assert stream.events()[-1] == DONE


def test_parallel_tool_calls_are_relayed_in_order(shared_proxy: Proxy, chutes: Upstream, run: str) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("a", "b")]
    prompt = directive(tool_calls=2, step="tools")
    seen: list[tuple[int, str]] = []
    with EventStream(shared_proxy.port, chat(run, prompt, tools=tools)) as stream:
        stream.event()
        while True:
            chutes.step("tools")
            event = stream.event()
            if event == DONE:
                break
            delta = event["choices"][0]["delta"]
            seen += [(call["index"], call["function"]["arguments"]) for call in delta.get("tool_calls", [])]
    assert [index for index, _ in seen] == sorted(index for index, _ in seen)
    for index in (0, 1):
        arguments = "".join(piece for number, piece in seen if number == index)
        assert arguments.startswith("{")
        assert arguments.endswith("}")


@each_row("fault", ["split", "crlf", "comments"], before=FRESH)
def test_events_do_not_depend_on_the_framing_of_the_upstream(
    shared_proxy: Proxy, chutes: Upstream, run: str, fault: str
) -> None:
    def relayed(**asked: object) -> list[Any]:
        with EventStream(shared_proxy.port, chat(run, directive(**asked), logprobs=True)) as stream:
            events = stream.events()
        return [
            event if event == DONE else {"choices": event["choices"], "object": event["object"]}
            for event in events
        ]

    assert relayed(fault=fault) == relayed()
    assert chutes.wait(idle=1)["count"] == 2


@each_row("choices", [1, 3], before=FRESH)
def test_a_stream_is_complete_when_each_choice_has_finished(
    shared_proxy: Proxy, chutes: Upstream, run: str, choices: int
) -> None:
    with EventStream(shared_proxy.port, chat(run, directive(usage="none"), n=choices)) as stream:
        events = stream.events()
    finished = [
        choice["index"]
        for event in events[:-1]
        for choice in event["choices"]
        if choice["finish_reason"] == "stop"
    ]
    assert (sorted(finished), events[-1]) == (list(range(choices)), DONE)
    assert chutes.calls()[0]["billed_nanousd"] <= shared_proxy.usage(run).spent


UNCHANGED: dict[str, object] = {
    "temperature": 0.3, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "seed": -7,
    "frequency_penalty": -0.5, "presence_penalty": 0.5, "logit_bias": {"50256": -100},
    "stop": ["\n\n", "END"], "logprobs": True, "top_logprobs": 2, "user": "a user",
    "parallel_tool_calls": False,
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "chat_template_kwargs": {"thinking": True, "enable_thinking": False}, "reasoning_effort": "low",
}  # fmt: skip


@each_row("stream", [False, True], before=FRESH)
def test_fields_without_effect_on_the_bill_are_sent_unchanged_and_alone(
    shared_proxy: Proxy, chutes: Upstream, run: str, *, stream: bool
) -> None:
    body = chat(run, "hi", **UNCHANGED, stream=stream, max_tokens=77, max_completion_tokens=99)
    answer = shared_proxy.ask("POST", "/v1/chat/completions", body, {"X-Run-Id": run})
    assert answer.status == 200
    (call,) = chutes.calls()
    set_by_the_proxy = {"model": "deepseek-ai/DeepSeek-V3-0324", "stream": stream, "max_tokens": 77}
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream_options = {"stream_options": options} if stream else {}
    assert call["body"] == {**UNCHANGED, **set_by_the_proxy, **stream_options}
    assert "x-run-id" not in call["headers_seen"]


def test_more_inputs_than_the_upstream_takes_at_once_are_a_client_error(chutes: Upstream, run: str) -> None:
    with Proxy(chutes, EMBEDDING_BATCH="64") as proxy:
        answer = proxy.ask("POST", "/v1/embeddings", {"run_id": run, "input": ["x"] * 33})
    assert chutes.wait(idle=1)["count"] == 1
    assert (answer.status, answer.json["error"]["code"]) == (400, "upstream_rejected")
