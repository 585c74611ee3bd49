"""Texts that templates write again at other messages."""

from __future__ import annotations

from typing import Any

from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.billing.rendered_bounds import field_bound_tokens
from tests.support.table import check_rows

Message = dict[str, Any]

TOOLS = [{"type": "function", "function": {"name": "look", "description": "d" * 1000}}]
TOOL_TOKENS = field_bound_tokens("tools", TOOLS)
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"title": "t" * 1000}}}
SCHEMA_TOKENS = field_bound_tokens("response_format", SCHEMA)


def call_of(*names: str) -> Message:
    calls = [{"id": "1", "type": "function", "function": {"name": each, "arguments": "{}"}} for each in names]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def message(role: str, content: object = "x") -> Message:
    return {"role": role, "content": content}


def extra_tokens(messages: list[Message], **fields: object) -> list[int]:
    """Return for each message by how much its bound is larger than that of the message alone."""
    bounds = Prompt.of(messages, fields).bounds
    return [bound - Prompt.of([each], {}).bounds[0] for bound, each in zip(bounds, messages, strict=True)]


def test_each_tool_message_counts_the_longest_name_that_was_called_before() -> None:
    conversation = [
        message("tool"), call_of("short", "a" * 40), message("tool"), message("user"), call_of("b" * 64),
        message("tool"), message("observation"), call_of("c"), message("tool"), message("assistant"),
    ]  # fmt: skip

    assert extra_tokens(conversation) == [0, 0, 40, 0, 0, 64, 64, 0, 64, 0]


def test_a_name_counts_its_bytes_in_every_form() -> None:
    def check(row: tuple[str, int]) -> None:
        name, least = row
        assert extra_tokens([call_of(name), message("tool")])[1] >= least

    check_rows([("é" * 64, 128), ("\U0001d15e" * 64, 512), ('"' * 64, 384), ("\U0001f600" * 64, 256)], check)


def test_the_tools_count_at_each_user_message_that_equals_the_last_one() -> None:
    parts = [{"type": "text", "text": "g"}, {"type": "text", "text": "o"}]

    def check(row: tuple[list[Message], int]) -> None:
        conversation, times = row
        assert extra_tokens(conversation, tools=TOOLS)[-1] == times * TOOL_TOKENS
        assert extra_tokens(conversation)[-1] == 0

    rows = [
        ([message("user", "go")] * 5, 4),
        ([message("user", "go"), message("user", "stop"), message("user", "go")], 1),
        ([message("user", "go"), message("user", "stop")], 0),
        ([message("user", parts), message("user", "go")], 1),
        ([message("user", "g\no"), message("user", "go")], 1),
        ([message("user", [{"type": "text", "text": "g\no"}]), message("user", "go")], 1),
        ([message("user", None), message("assistant", "go"), message("user", "go")], 0),
        ([message("assistant", "go"), message("assistant", "go")], 0),
    ]
    check_rows(rows, check)


def test_tools_and_response_format_count_at_each_developer_message_but_a_first_one() -> None:
    conversation = [message("developer"), message("user"), message("developer")]

    assert extra_tokens(conversation, tools=TOOLS, response_format=SCHEMA) == [
        0,
        0,
        TOOL_TOKENS + SCHEMA_TOKENS,
    ]
    assert extra_tokens([message("user"), message("developer")], tools=TOOLS) == [0, TOOL_TOKENS]
    assert extra_tokens(conversation, stop=["x"]) == [0, 0, 0]


def test_the_bound_of_a_longer_conversation_is_that_of_its_beginning_and_of_its_new_messages() -> None:
    conversation = [
        message("user", "go"), call_of("look"), message("tool"), message("user", "go"), message("developer"),
        message("assistant"), message("user", "go"), call_of("seek" * 16), message("tool"),
    ]  # fmt: skip
    before = Prompt.of(conversation[:3], {"tools": TOOLS})
    after = Prompt.of(conversation, {"tools": TOOLS})

    assert after.call_bound == before.call_bound
    assert after.bounds[:3] == before.bounds
