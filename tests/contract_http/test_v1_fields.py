"""Notes that clients of other APIs send on `/v1`: they never reach the upstream, or the estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.openai_api import WHOLE, chat, embed, estimate
from tests.contract_http.service import CHAT_URL, EMBED_URL, app_of, sent
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask

    Message = dict[str, Any]

CACHED = {"cache_control": {"type": "ephemeral"}}
QUESTION = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}


@pytest.fixture
def app() -> Flask:
    return app_of(RATE_LIMIT_PER_RUN="off", RATE_LIMIT_PER_IP="off")


def with_function(call: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {**call, "function": {**call["function"], **fields}}


MESSAGES: list[tuple[str, Message, Message]] = [
    ("litellm", {**ANSWER, "provider_specific_fields": {"reasoning": None}}, ANSWER),
    ("litellm, thinking", {**ANSWER, "thinking_blocks": [{"type": "thinking"}], "images": []}, ANSWER),
    ("litellm, cached", {**QUESTION, **CACHED}, QUESTION),
    ("litellm, calls", {**CALLING, "function_call": None, "tool_calls": [{**CALL, "index": 0}]}, CALLING),
    ("openai, parsed", {**ANSWER, "parsed": {"a": 1}, "annotations": [], "audio": None}, ANSWER),
    (
        "openai, parsed calls",
        {**CALLING, "parsed": None, "tool_calls": [with_function(CALL, parsed_arguments={"a": 1})]},
        CALLING,
    ),
    ("openai, citations", {**ANSWER, "annotations": [{"type": "url_citation", "url_citation": {}}]}, ANSWER),
    (
        "cached part",
        {"role": "user", "content": [{"type": "text", "text": "Hello", **CACHED}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ),
    (
        "image of litellm",
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://a.test/b", "format": "image/png"}}
            ],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/b"}}]},
    ),
    ("openrouter", {**ANSWER, "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}, ANSWER),
    ("AI SDK", {**CALLING, "tool_calls": [{**CALL, "extra_content": {"google": {"s": "x"}}}]}, CALLING),
    ("opencode", {**QUESTION, "agent": "build", "messageId": "m", "traceId": "t"}, QUESTION),
    ("langchain", {**ANSWER, "response_metadata": {"a": 1}, "additional_kwargs": {}, "id": "run-1"}, ANSWER),
    ("mini-swe-agent", {**QUESTION, "timestamp": 1.5, "extra": {"actions": []}}, QUESTION),
    (
        "another upstream's answer",
        {**ANSWER, "audio": {"id": "a"}, "images": [{"type": "image_url"}], "thinking": "t"},
        ANSWER,
    ),
    ("legacy call", {**ANSWER, "function_call": {"name": "f", "arguments": "{}"}}, ANSWER),
    (
        "parts with thoughts",
        {
            **ANSWER,
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "text", "text": "Hi"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "reasoning", "reasoning": "r", "summary": [{"type": "x"}]},
            ],
        },
        {**ANSWER, "content": [{"type": "text", "text": "Hi"}]},
    ),
    ("only thoughts", {**CALLING, "content": [{"type": "thinking"}]}, {**CALLING, "content": []}),
    ("unknown and empty", {**QUESTION, "a": None, "b": "", "c": [], "d": {}}, QUESTION),
]


def test_a_message_of_a_client_goes_upstream_without_its_notes(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)

    def check(row: tuple[str, Message, Message]) -> None:
        _, message, expected = row
        reply = chat(app, messages=[message])
        assert (reply.status_code, sent(upstream)["messages"]) == (200, [expected])
        assert hold_usd(app, messages=[message]) == hold_usd(app, messages=[expected])

    check_rows(MESSAGES, check)


REQUESTS: list[dict[str, Any]] = [
    {"metadata": {"user": "u"}, "store": True, "prompt_cache_key": "k", "prompt_cache_retention": "24h"},
    {"store": False},
    {"usage": {"include": True}},
    {"usage": {"include": False}},
    {"tools": [], "stop": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"a": None, "b": "", "c": [], "d": {}, "chat_template": None, "best_of": None, "functions": []},
    {"litellm_metadata": {"a": 1}, "session_id": "s", "trace": {"id": "t"}, "cache_control": {"a": 1}},
]


def test_a_request_of_a_client_goes_upstream_without_its_notes(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    chat(app)
    expected = sent(upstream)

    def check(fields: dict[str, Any]) -> None:
        assert chat(app, **fields).status_code == 200
        assert sent(upstream) == expected
        assert hold_usd(app, **fields) == hold_usd(app)

    check_rows(REQUESTS, check)


def test_a_tool_goes_upstream_without_notes_and_empty_fields(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    noted = {**with_function(TOOL, metadata={"a": 1}, returns=None), **CACHED, "defer": None}
    assert chat(app, tools=[noted]).status_code == 200
    assert sent(upstream)["tools"] == [TOOL]
    assert hold_usd(app, tools=[noted]) == hold_usd(app, tools=[TOOL])


def test_constraints_go_upstream_and_are_in_the_hold(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, json=WHOLE)
    fields: dict[str, Any] = {
        "structured_outputs": {"json": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "guided_json": {"type": "object"},
        "guided_regex": "a+",
        "guided_choice": ["a", "b"],
        "guided_grammar": "root ::= x",
        "regex": "a+",
        "ebnf": "root ::= x",
        "min_tokens": 1,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    assert hold_usd(app, **fields) > hold_usd(app)
    assert chat(app, **fields).status_code == 200
    assert {name: sent(upstream)[name] for name in fields} == fields


def test_a_field_that_is_refused_says_where_the_accepted_ones_are(app: Flask) -> None:
    rows: list[tuple[dict[str, Any], str, str]] = [
        ({"reasoning_budget": 5}, "reasoning_budget", ""),
        (
            {"chat_template": "{{ 1 }}"},
            "chat_template",
            ": it can replace the prompt, which then has no bound",
        ),
        (
            {"messages": [{**QUESTION, "prefix": True}]},
            "messages[0].prefix",
            ": send continue_final_message in the request",
        ),
    ]

    def check(row: tuple[dict[str, Any], str, str]) -> None:
        fields, param, reason = row
        reply = chat(app, **fields)
        error = reply.get_json()["error"]
        assert (reply.status_code, error["param"]) == (400, param)
        assert error["message"] == f"{param}: Not accepted here{reason}; see /docs for the accepted fields"

    check_rows(rows, check)


def test_notes_of_clients_are_dropped_from_embeddings(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(EMBED_URL, json=[[0.5]])
    reply = embed(app, metadata={"a": 1}, dimensions=None, extra={}, litellm_call_id="x")
    assert reply.status_code == 200
    assert set(sent(upstream)) == {"inputs"}


def hold_usd(app: Flask, **fields: object) -> float:
    """The estimate of a call's hold."""
    reply = estimate(app, **fields)
    assert reply.status_code == 200
    return float(reply.get_json()["hold_cost_usd"])
