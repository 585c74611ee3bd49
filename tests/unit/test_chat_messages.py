"""The messages of a chat on `/v1`: every field and every kind of part is listed, all else is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.chat_messages import MAX_FAULTS, MAX_TOOL_CALLS, read_messages
from ridges_proxy.web.schemas.fields import MAX_FAULTY_MESSAGES, MAX_MESSAGES

CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
REMOTE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "high"}}
INLINE = {"type": "image_url", "image_url": {"url": "DATA:image/svg+xml;base64,AAAA"}}


def faults(*messages: object) -> Any:  # noqa: ANN401 - marshmallow's nested form
    with pytest.raises(ValidationError) as error:
        read_messages(list(messages))
    return error.value.messages


@pytest.mark.parametrize(
    "message",
    [
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
        {"role": "assistant", "content": "a", "annotations": [], "audio": None, "function_call": None},
        {"role": "tool", "content": "t", "tool_call_id": "c"},
        {"role": "user", "content": "a", "name": None, "tool_calls": None, "refusal": None},
    ],
)
def test_a_good_message_is_taken_as_it_came(message: dict[str, Any]) -> None:
    messages = [message]
    assert read_messages(messages) is messages
    assert ChatRequest.of(messages, {}, 1).prompt_tokens > 0


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"role": None}, "role"),
        ({"role": 5}, "role"),
        ({"role": "x" * 257}, "role"),
        ({"content": 5}, "content"),
        ({"content": {}}, "content"),
        ({"content": True}, "content"),
        ({"name": 5}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"tool_calls": {}}, "tool_calls"),
        ({"tool_calls": "f"}, "tool_calls"),
        ({"tool_calls": [CALL] * (MAX_TOOL_CALLS + 1)}, "tool_calls"),
        ({"tool_calls": [None]}, "tool_calls"),
        ({"tool_calls": [{}]}, "tool_calls"),
        ({"tool_calls": [{"function": None}]}, "tool_calls"),
        ({"tool_calls": [{"function": {"name": "f"}}]}, "tool_calls"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "tool_calls"),
        ({"tool_calls": [{"function": {"name": 5, "arguments": "{}"}}]}, "tool_calls"),
        ({"tool_call_id": 5}, "tool_call_id"),
        ({"refusal": []}, "refusal"),
        ({"reasoning": {}}, "reasoning"),
        ({"reasoning_content": 5}, "reasoning_content"),
        ({"annotations": [{"type": "url_citation"}]}, "annotations"),
        ({"audio": {"id": "a"}}, "audio"),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
        ({"prefix": True}, "prefix"),
        ({"images": []}, "images"),
        ({"thinking": "x"}, "thinking"),
        ({"": ""}, ""),
    ],
)
def test_a_bad_field_of_a_message_is_named_with_its_place(fields: dict[str, Any], place: str) -> None:
    found = faults({"role": "user", "content": "hi"}, {"role": "user", **fields})
    assert list(found) == [1]
    assert list(found[1]) == [place]


@pytest.mark.parametrize(
    "part",
    [
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
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
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
        {"type": "image", "image": "https://a"},
        {"image_url": {"url": "https://a"}},
    ],
)
def test_a_part_that_cannot_be_bounded_is_named_with_its_place(part: object) -> None:
    found = faults({"role": "user", "content": [{"type": "text", "text": "t"}, part]})
    assert list(found[0]["content"]) == [1]


def test_a_body_of_nothing_but_faults_names_a_few_of_them() -> None:
    bad: dict[str, Any] = {f"field{number}": 0 for number in range(1000)}
    services = faults({"role": "user", "content": [{}] * 100_000})
    fields = faults({"role": "user", **bad})
    several = faults(*[{}] * 5000)

    assert list(services[0]["content"]) == list(range(MAX_FAULTS))
    assert len(fields[0]) == MAX_FAULTS
    assert list(several) == list(range(MAX_FAULTY_MESSAGES))


def test_there_may_be_so_many_messages_and_not_one_more() -> None:
    message = {"role": "user", "content": ""}
    read_messages([message] * MAX_MESSAGES)
    with pytest.raises(ValidationError):
        read_messages([message] * (MAX_MESSAGES + 1))


words = st.sampled_from(
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
    st.none() | st.booleans() | st.integers(0, 5) | words | st.sampled_from(["https://a", "{}", "[1e999]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
services = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]) | json_values}) | json_values
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": st.just("f"), "arguments": st.just("{}") | json_values})}
)
messages = st.fixed_dictionaries(
    {"role": st.just("user") | json_values},
    optional={
        "content": st.text() | st.lists(services, max_size=3) | json_values,
        "tool_calls": st.lists(calls, max_size=2) | json_values,
    },
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(value=st.lists(messages | json_values, max_size=3) | json_values)
def test_whatever_messages_hold_they_are_counted_or_refused(value: Any) -> None:  # noqa: ANN401 - any JSON
    try:
        chat = ChatRequest.of(read_messages(value), {}, 1)
    except (ValidationError, InvalidRequestError):
        return
    assert chat.prompt_tokens >= len(chat.messages)
