"""The request that goes upstream, and the errors for fields that are nested too deeply."""

from __future__ import annotations

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest, upstream_body
from ridges_proxy.billing.rendered_bounds import MAX_DEPTH, NESTED_TOO_DEEPLY
from ridges_proxy.errors import InvalidRequestError, Problem
from tests.support.chat import HELLO, HELLO_TOKENS, chat_of, tool_call_messages
from tests.support.table import check_rows

letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
special_letters = st.text(st.sampled_from('a"\\\n\x01\x7f\u0344\u0958\u2028é\U0001d15e'), max_size=12)


# --- nesting -----------------------------------------------------------------------------------------------


def nested(depth: int, *, lists: bool) -> Any:  # noqa: ANN401 - any JSON
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


PLACES = ["tools", "tool_choice", "response_format", "chat_template_kwargs", "messages"]
TOO_DEEP = [MAX_DEPTH + 1, 253, 254, 255, 256, 990, 1023, 1100]


def test_a_field_that_is_nested_too_deeply_is_refused_with_its_name() -> None:
    def check(row: tuple[str, int, bool]) -> None:
        place, depth, lists = row
        value = nested(depth, lists=lists)
        messages = tool_call_messages("{}", extra=value) if place == "messages" else HELLO
        fields = {} if place == "messages" else {place: value}

        with pytest.raises(InvalidRequestError) as refused:
            chat_of(messages, **fields)

        (problem,) = refused.value.problems
        assert problem == Problem(["body", place], NESTED_TOO_DEEPLY, "value_error")

    check_rows(itertools.product(PLACES, TOO_DEEP, [True, False]), check)


def test_a_nested_value_that_is_accepted_can_be_sent() -> None:
    def check(row: tuple[int, bool]) -> None:
        depth, lists = row
        value = nested(depth, lists=lists)
        chat = chat_of(
            tool_call_messages(json.dumps(value), extra=value),
            tools=[value],
            tool_choice=value,
            response_format={"value": value},
        )

        sent = orjson.loads(upstream_body(chat, "m", 10, stream=True))

        assert (sent["tools"], sent["response_format"]) == ([value], {"value": value})
        assert sent["messages"][0]["tool_calls"][0]["extra"] == value

    check_rows(itertools.product([1, 100, MAX_DEPTH - 4], [True, False]), check)


def test_arguments_in_the_history_are_passed_on_in_every_form() -> None:
    """A client cannot change what a model wrote. A refusal would end the conversation for good."""

    def check(arguments: str) -> None:
        messages = tool_call_messages(arguments)
        sent = orjson.loads(upstream_body(chat_of(messages), "m", 10, stream=True))
        assert sent["messages"] == messages

    rows = [
        '{"a": NaN}',
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        '["\\ud800"]',
        '{"\\udc00":NaN}',
        f"[NaN,{2**70},{'9' * 400}]",
        "9" * 5_000,
        "{",
        "",
        *(
            opening * depth + closing * depth
            for depth in TOO_DEEP
            for opening, closing in ("[]", ('{"a":', "}"))
        ),
        "[" * 3_000,
        "[" * 100_000 + "]" * 100_000,
    ]
    check_rows(rows, check)


# --- the body for the upstream -----------------------------------------------------------------------------


def test_a_stream_asks_for_its_usage() -> None:
    body = upstream_body(chat_of(temperature=0.5, seed=None), "m", 7, stream=True)

    assert body == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"seed":null,'
        b'"stream":true,"max_tokens":7,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
    )


def test_large_fields_are_kept_as_json_while_a_call_waits() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    chat = chat_of(tools=tools, temperature=0.5)

    assert isinstance(chat.fields["tools"], orjson.Fragment)
    assert chat.fields["temperature"] == 0.5
    assert orjson.loads(upstream_body(chat, "m", 7, stream=False))["tools"] == tools


def test_a_request_without_a_stream_has_no_stream_options() -> None:
    body = upstream_body(chat_of(), "m", 7, stream=False)

    assert body == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false,"max_tokens":7}'
    )


def test_several_choices_are_sent_as_n_and_a_single_one_is_not() -> None:
    def check(row: tuple[int, int | None]) -> None:
        choices, sent = row
        chat = ChatRequest.of(HELLO, {}, 10, choices=choices)

        assert orjson.loads(upstream_body(chat, "m", 7, stream=True)).get("n") == sent
        assert chat.prompt_tokens == HELLO_TOKENS, "counted once: the quote multiplies it"

    check_rows([(1, None), (2, 2), (128, 128)], check)


def test_no_field_replaces_the_values_that_the_hold_pays_for() -> None:
    fields = {"stream": False, "max_tokens": 10**6, "stream_options": None, "n": 9}
    chat = ChatRequest.of(HELLO, fields, 10, choices=2)

    sent = orjson.loads(upstream_body(chat, "m", 7, stream=True))

    assert (sent["stream"], sent["max_tokens"], sent["n"]) == (True, 7, 2)
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@given(content=letters | special_letters)
def test_the_messages_are_sent_as_they_were_counted(content: str) -> None:
    messages = [{"role": "user", "content": content}]
    chat = chat_of(messages)

    assert chat.prompt.json in upstream_body(chat, "m", 7, stream=True)
    assert orjson.loads(chat.prompt.json) == messages
    assert chat.prompt_tokens >= len(chat.prompt.json) + 16 + 256
