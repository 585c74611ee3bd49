"""Requests of `/v1/responses` become the fields of a chat, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.responses_api.chat_fields import chat_fields
from ridges_proxy.web.responses_api.response_object import ResponseForm
from ridges_proxy.web.schemas.chat import ChatSchema
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.response_request import ResponsesSchema
from tests.support.table import check_rows

REQUESTS, CHATS = ResponsesSchema(), ChatSchema()

FUNCTION = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object"},
    "strict": False,
    "description": None,
}
CHAT_FUNCTION = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object"}, "strict": False},
}
NAMESPACE = {"type": "namespace", "name": "team", "description": "x", "tools": [FUNCTION]}
WEB_SEARCH = {"type": "web_search", "external_web_access": True}
SCHEMA = {"type": "object", "properties": {}}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
CHAT_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm"}],
}


def fields_of(request: dict[str, Any]) -> dict[str, Any]:
    """The chat's fields that differ between requests, validated as a chat's."""
    fields = load(CHATS, chat_fields(load(REQUESTS, {"run_id": "run", "input": "Hi", **request})))
    assert fields.pop("stream_options") == {"include_usage": True}
    assert fields.pop("run_id") == "run"
    if fields["messages"] == [{"role": "user", "content": "Hi"}]:
        del fields["messages"]
    return {name: value for name, value in fields.items() if value is not None}


def message(role: str, content: object, **fields: object) -> dict[str, object]:
    return {"role": role, "content": content, **fields}


def part(text: str, kind: str = "input_text") -> dict[str, object]:
    return {"type": kind, "text": text, "annotations": [], "logprobs": None}


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    (
        {"model": "m", "stream": True, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 7},
        {"model": "m", "stream": True, "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 7},
    ),
    ({"user": "u", "prompt_cache_key": "k"}, {"user": "u"}),
    ({"service_tier": "auto", "safety_identifier": "s"}, {"service_tier": "auto", "safety_identifier": "s"}),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
    ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
            }
        },
    ),
    ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
    # They change nothing here.
    ({"store": True, "truncation": "auto", "metadata": {"a": "b"}, "background": False}, {}),
    ({"include": ["reasoning.encrypted_content"], "client_metadata": {"a": 1}, "max_tool_calls": 3}, {}),
    ({"prompt_cache_retention": "24h", "stream_options": {"include_obfuscation": False}}, {}),
    ({"previous_response_id": None, "conversation": None, "prompt": None, "instructions": None}, {}),
    ({"unknown": None, "also_unknown": [], "and_this": {}, "or_this": ""}, {}),
    # Tools.
    (
        {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": True},
        {"tools": [CHAT_FUNCTION], "tool_choice": "required", "parallel_tool_calls": True},
    ),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CHAT_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
    ({"tools": [WEB_SEARCH], "tool_choice": "auto"}, {}),
    ({"tools": [WEB_SEARCH], "tool_choice": "required"}, {}),
    ({"tool_choice": {"type": "function", "name": "f"}}, {}),
    (
        {"tools": [NAMESPACE, WEB_SEARCH, {**FUNCTION, "name": "g"}], "tool_choice": "auto"},
        {
            "tools": [
                {"type": "function", "function": {**CHAT_FUNCTION["function"], "name": name}}  # type: ignore[dict-item]
                for name in ("team__f", "g")
            ],
            "tool_choice": "auto",
        },
    ),
    (
        {
            "tools": [FUNCTION, {**FUNCTION, "name": "g"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
        },
        {"tools": [CHAT_FUNCTION], "tool_choice": "auto"},
    ),
]


def test_each_field_becomes_a_field_of_the_chat_or_changes_nothing() -> None:
    def check(row: tuple[dict[str, Any], dict[str, Any]]) -> None:
        request, expected = row
        assert fields_of(request) == expected

    check_rows(FIELDS, check)


INPUTS: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    ([message("user", [part("a")])], [message("user", "a")]),
    (
        [
            message(
                "assistant",
                [
                    {"type": "thinking", "thinking": "t"},
                    part("a", "output_text"),
                    {"type": "reasoning"},
                    {"type": "redacted_thinking", "data": "d"},
                    part("r", "reasoning_text"),
                ],
                audio={"id": "a"},
                images=["i"],
                thinking="t",
                function_call={"name": "f"},
            )
        ],
        [message("assistant", "a")],
    ),
    (
        [message("user", [part("a"), part("b")], type="message", id="msg_1", status="completed")],
        [message("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
    ),
    (
        [message("user", [{"type": "input_image", "image_url": "https://a.test/b", "detail": "original"}])],
        [
            message(
                "user", [{"type": "image_url", "image_url": {"url": "https://a.test/b", "detail": "high"}}]
            )
        ],
    ),
    ([message("assistant", [part("a", "output_text")], phase="commentary")], [message("assistant", "a")]),
    (
        [message("assistant", [{"type": "refusal", "refusal": "No"}])],
        [message("assistant", [{"type": "refusal", "refusal": "No"}])],
    ),
    (
        [message("developer", [part("a"), part("b")]), message("system", "c"), message("user", "d")],
        [message("system", "a\n\nb\n\nc"), message("user", "d")],
    ),
    (
        [message("user", "a"), message("developer", "b"), message("developer", "c")],
        [message("user", "a"), message("system", "b"), message("system", "c")],
    ),
    (
        [message("user", "a"), CALL, {"type": "function_call_output", "call_id": "1", "output": "b"}],
        [
            message("user", "a"),
            message("assistant", None, tool_calls=[CHAT_CALL]),
            message("tool", "b", tool_call_id="1"),
        ],
    ),
    (
        [REASONING, message("assistant", "a"), {**CALL, "namespace": "team", "status": None}, CALL],
        [
            message(
                "assistant",
                "a",
                reasoning_content="Hm",
                tool_calls=[
                    {**CHAT_CALL, "function": {"name": "team__f", "arguments": "{}"}},
                    CHAT_CALL,
                ],
            )
        ],
    ),
    (
        [CALL, message("assistant", "a"), message("assistant", "b")],
        [
            message(
                "assistant",
                [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                tool_calls=[CHAT_CALL],
            )
        ],
    ),
    (
        [message("assistant", "a"), message("assistant", "b"), REASONING, CALL],
        [
            message("assistant", "a"),
            message("assistant", "b", reasoning_content="Hm", tool_calls=[CHAT_CALL]),
        ],
    ),
    (
        [
            CALL,
            {"type": "function_call_output", "call_id": "1", "output": [part("b")]},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "S"}],
                "encrypted_content": "x",
            },
            CALL,
        ],
        [
            message("assistant", None, tool_calls=[CHAT_CALL]),
            message("tool", "b", tool_call_id="1"),
            message("assistant", None, reasoning_content="S", tool_calls=[CHAT_CALL]),
        ],
    ),
    (
        [REASONING, message("user", "a"), message("assistant", "b")],
        [message("user", "a"), message("assistant", "b")],
    ),
    ([message("user", "a"), {"type": "item_reference", "id": "rs_1"}], [message("user", "a")]),
]


def test_items_become_messages_one_for_each_turn_of_the_assistant() -> None:
    def check(row: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
        items, messages = row
        assert fields_of({"input": items})["messages"] == messages

    check_rows(INPUTS, check)


def test_instructions_and_leading_system_messages_become_one_message() -> None:
    request = {"instructions": "a", "input": [message("developer", "b"), message("user", "c")]}
    assert fields_of(request)["messages"] == [message("system", "a\n\nb"), message("user", "c")]


DEEP: Any = {}
for _ in range(300):
    DEEP = {"a": DEEP}

REFUSED: list[tuple[dict[str, Any], list[str | int], str]] = [
    ({"previous_response_id": "resp_1"}, ["previous_response_id"], "complete conversation"),
    ({"conversation": {"id": "conv_1"}}, ["conversation"], "complete conversation"),
    ({"prompt": {"id": "pmpt_1"}}, ["prompt"], "instructions and input"),
    ({"background": True}, ["background"], "false"),
    ({"service_tier": "priority"}, ["service_tier"], "auto, default"),
    ({"unknown": 1}, ["unknown"], "see /docs"),
    ({"reasoning": {"unknown": 1}}, ["reasoning", "unknown"], "see /docs"),
    ({"input": []}, ["input"], "1 to 10000"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ["input", 0, "id"], "store: false"),
    ({"input": [{"type": "computer_call"}]}, ["input", 0, "type"], "not available"),
    ({"input": [message("user", [{"type": "input_file"}])]}, ["input", 0, "content", 0, "type"], "bounded"),
    (
        {"input": [message("user", [{"type": "input_image", "image_url": "file:///etc/passwd"}])]},
        ["input", 0, "content", 0, "image_url"],
        "https URL",
    ),
    ({"input": [{**CALL, "unknown": 1}]}, ["input", 0, "unknown"], "see /docs"),
    ({"input": [{**CALL, "call_id": None}]}, ["input", 0, "call_id"], "required"),
    ({"input": [message("tool", "x")]}, ["input", 0, "role"], "user, assistant"),
    ({"tools": [{"type": "file_search"}]}, ["tools", 0, "type"], "function"),
    ({"tools": [{"type": "custom", "name": "apply_patch"}]}, ["tools", 0, "type"], "custom tools"),
    ({"tools": [{**FUNCTION, "name": "a b"}]}, ["tools", 0, "name"], "letters"),
    ({"tools": [{**NAMESPACE, "name": "n" * 64}]}, ["tools", 0, "tools", 0, "name"], "64"),
    ({"tool_choice": {"type": "web_search"}}, ["tool_choice", "type"], "not available"),
    ({"text": {"format": {"type": "grammar"}}}, ["text", "format", "type"], "json_schema"),
    (
        {
            "tools": [{**FUNCTION, "parameters": DEEP}],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "x", "name": "y"}]},
        },
        ["tools"],
        "nested too deeply",
    ),
]


def test_everything_else_is_refused_with_its_place_and_a_reason() -> None:
    def check(row: tuple[dict[str, Any], list[str | int], str]) -> None:
        request, place, reason = row
        with pytest.raises(InvalidRequestError) as raised:
            ResponseForm.of(load(REQUESTS, {"run_id": "run", "input": "Hi", **request}), "m")
        (problem,) = raised.value.problems
        assert problem.loc == ["body", *place]
        assert reason in problem.msg

    check_rows(REFUSED, check)


def test_all_problems_of_a_request_are_named() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        load(REQUESTS, {"run_id": "run", "unknown": 1, "prompt": "x", "stream": 1})
    names = {problem.loc[1] for problem in raised.value.problems}
    assert names == {"input", "stream", "prompt", "unknown"}
