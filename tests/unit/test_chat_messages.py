"""The types of a chat's messages: fields and parts that are not listed are refused with their place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.agents import AgentMessage
from ridges_proxy.web.schemas.chat_messages import MAX_ERRORS, MAX_TOOL_CALLS, Message, MessageList
from ridges_proxy.web.schemas.problems import MAX_FAULTY_MESSAGES, MAX_MESSAGES
from tests.support.table import check_rows

MESSAGES = MessageList(Message())
AGENT_MESSAGES = MessageList(AgentMessage())

CALL = {"id": "c", "type": "function", "plan": 0, "function": {"name": "f", "arguments": "{}"}}
REMOTE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "high"}}
INLINE = {"type": "image_url", "image_url": {"url": "DATA:image/svg+xml;base64,AAAA"}}


def errors_of(*messages: object) -> Any:  # noqa: ANN401 - marshmallow's nested form
    with pytest.raises(ValidationError) as error:
        MESSAGES.read(list(messages))
    return error.value.messages


GOOD: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "user", "content": ""},
    {"role": "user", "content": []},
    {"role": "user"},
    {"role": "system", "content": "s", "name": "n"},
    {"role": "developer", "content": [{"type": "text", "text": "t"}]},
    {"role": "user", "content": [{"type": "text", "text": "t"}, REMOTE, INLINE]},
    {"role": "assistant", "content": None, "tool_calls": [CALL] * MAX_TOOL_CALLS},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": "no"},
    {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"},
    {"role": "tool", "content": "t", "tool_call_id": "c"},
    {"role": "assistant", "tool_calls": [{"function": {"name": "é." * 32, "arguments": "{}"}}]},
    {"role": "tool", "content": "t", "name": "é." * 32},
    {"role": "user", "content": "a", "name": None, "tool_calls": None, "refusal": None},
]


def test_a_good_message_is_read_unchanged_in_the_order_of_its_fields() -> None:
    def check(message: dict[str, Any]) -> None:
        (read,) = MESSAGES.read([message])
        assert read == message
        assert list(read) == list(message)
        assert ChatRequest.of([read], {}, 1).prompt_tokens > 0

    check_rows(GOOD, check)


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"role": None}, "role"),
    ({"role": 5}, "role"),
    ({"role": "x" * 257}, "role"),
    ({"content": 5}, "content"),
    ({"content": {}}, "content"),
    ({"content": True}, "content"),
    ({"name": 5}, "name"),
    ({"name": "x" * 65}, "name"),
    ({"tool_calls": {}}, "tool_calls"),
    ({"tool_calls": "f"}, "tool_calls"),
    ({"tool_calls": [CALL] * (MAX_TOOL_CALLS + 1)}, "tool_calls"),
    ({"tool_calls": [None]}, "tool_calls"),
    ({"tool_calls": [{}]}, "tool_calls"),
    ({"tool_calls": [{"function": None}]}, "tool_calls"),
    ({"tool_calls": [{"function": {"name": "f"}}]}, "tool_calls"),
    ({"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "tool_calls"),
    ({"tool_calls": [{"function": {"name": 5, "arguments": "{}"}}]}, "tool_calls"),
    ({"tool_calls": [{"function": {"name": "x" * 65, "arguments": "{}"}}]}, "tool_calls"),
    ({"tool_call_id": 5}, "tool_call_id"),
    ({"refusal": []}, "refusal"),
    ({"reasoning": {}}, "reasoning"),
    ({"reasoning_content": 5}, "reasoning_content"),
    ({"audio": {"id": "a"}}, "audio"),
    ({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
    ({"prefix": True}, "prefix"),
    ({"images": [{"type": "image_url"}]}, "images"),
    ({"tools": [{}]}, "tools"),
    ({"thinking": "x"}, "thinking"),
    ({"": "x"}, ""),
]


def test_a_bad_field_of_a_message_is_named_with_its_place() -> None:
    def check(row: tuple[dict[str, Any], str]) -> None:
        fields, place = row
        errors = errors_of({"role": "user", "content": "hi"}, {"role": "user", **fields})
        assert list(errors) == [1]
        assert list(errors[1]) == [place]

    check_rows(BAD_FIELDS, check)


BAD_PARTS: list[object] = [
    None,
    5,
    "text",
    [],
    {},
    {"type": None},
    {"type": []},
    {"type": "text"},
    {"type": "text", "text": None},
    {"type": "text", "text": 5},
    {"type": "text", "text": "a", "uuid": "x"},
    {"type": "text", "text": "a", "image_url": {"url": "https://a"}},
    {"type": "image_url"},
    {"type": "image_url", "image_url": None},
    {"type": "image_url", "image_url": "https://a.test/"},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": {"url": None}},
    {"type": "image_url", "image_url": {"url": 5}},
    {"type": "image_url", "image_url": {"url": ""}},
    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    {"type": "image_url", "image_url": {"url": "ftp://a"}},
    {"type": "image_url", "image_url": {"url": " https://a"}},
    {"type": "image_url", "image_url": {"url": "data:video/mp4;base64,AAAA"}},
    {"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}},
    {"type": "image_url", "image_url": {"url": "https://a", "detail": "huge"}},
    {"type": "image_url", "image_url": {"url": "https://a", "fps": 5}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "video_url", "video_url": {"url": "https://a"}},
    {"type": "file", "file": {"file_id": "f"}},
    {"type": "thinking", "thinking": "t"},
    {"type": "image", "image": "https://a"},
    {"image_url": {"url": "https://a"}},
]


def test_a_part_that_is_not_listed_is_named_with_its_place() -> None:
    def check(part: object) -> None:
        errors = errors_of({"role": "user", "content": [{"type": "text", "text": "t"}, part]})
        assert list(errors[0]["content"]) == [1]

    check_rows(BAD_PARTS, check)


def test_a_part_has_the_texts_and_places_of_all_its_errors() -> None:
    extra, missing = ["Not accepted here; see /docs for the accepted fields"], ["Field required"]
    part = {"type": "image_url", "image_url": {"detail": "huge", "fps": 5}, "text": "t"}
    errors = {
        "image_url": {"url": missing, "detail": ["Input should be one of auto, low, high"], "fps": extra}
    }
    assert errors_of({"content": [part]}) == {0: {"role": missing, "content": {0: {**errors, "text": extra}}}}


def test_required_fields_that_are_missing_are_named_before_all_other_errors() -> None:
    found = errors_of({**{f"field{number}": 0 for number in range(20)}, "role": None})
    assert list(found[0]) == ["role", *(f"field{number}" for number in range(MAX_ERRORS))]


def test_only_the_first_errors_of_a_very_faulty_body_are_named() -> None:
    bad: dict[str, Any] = {f"field{number}": 0 for number in range(1000)}
    parts = errors_of({"role": "user", "content": [{}] * 100_000})
    fields = errors_of({"role": "user", **bad})
    several = errors_of(*[{}] * 5000)

    assert list(parts[0]["content"]) == list(range(MAX_ERRORS))
    assert len(fields[0]) == MAX_ERRORS
    assert list(several) == list(range(MAX_FAULTY_MESSAGES))


def test_the_number_of_messages_is_limited() -> None:
    message = {"role": "user", "content": ""}
    for messages in (MESSAGES, AGENT_MESSAGES):
        messages.read([message] * MAX_MESSAGES)
        with pytest.raises(ValidationError):
            messages.read([message] * (MAX_MESSAGES + 1))


def test_a_message_of_an_agent_is_reduced_to_its_role_and_content() -> None:
    message = {"content": "hi", "name": 5, "role": "user", "x": [1]}
    assert AGENT_MESSAGES.read([message]) == [{"role": "user", "content": "hi"}]
    assert list(AGENT_MESSAGES.read([message])[0]) == ["role", "content"]


names = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "user",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 5) | names | st.sampled_from(["https://a", "{}", "[1e999]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]) | json_values}) | json_values
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": st.just("f"), "arguments": st.just("{}") | json_values})}
)
messages = st.fixed_dictionaries(
    {"role": st.just("user") | json_values},
    optional={
        "content": st.text() | st.lists(parts, max_size=3) | json_values,
        "tool_calls": st.lists(calls, max_size=2) | json_values,
    },
)


@given(value=st.lists(messages | json_values, max_size=3) | json_values)
def test_any_messages_are_counted_or_refused(value: Any) -> None:  # noqa: ANN401 - any JSON
    try:
        chat = ChatRequest.of(MESSAGES.read(value), {}, 1)
    except (ValidationError, InvalidRequestError):
        return
    assert chat.prompt_tokens >= len(chat.prompt.json)
