"""An answer in one piece: what it costs by what it shows, whatever it is."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.json_completion import record_json_completion

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def answer(*messages: object, **more: object) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "message": message} for message in messages], **more}


def noted(document: object) -> Attempt:
    attempt = Attempt()
    record_json_completion(orjson.dumps(document), attempt)
    return attempt


def broken(body: bytes) -> Attempt:
    attempt = Attempt()
    with pytest.raises(UpstreamBrokenError):
        record_json_completion(body, attempt)
    assert (attempt.complete, attempt.usage) == (False, None)
    return attempt


def test_a_whole_answer_has_its_usage_and_its_bound() -> None:
    attempt = noted(answer({"role": "assistant", "content": "Hié"}, usage=USAGE))

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 4)


@pytest.mark.parametrize("usage", [None, {}, [], 5, {"prompt_tokens": -1, "completion_tokens": 1}])
def test_a_usage_that_makes_no_sense_leaves_the_bound(usage: object) -> None:
    attempt = noted(answer({"content": "Hi"}, usage=usage))

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, None, 2)


def test_all_choices_count_with_their_tools_and_reasoning() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    attempt = noted(
        answer({"content": "ab"}, {"content": None, "reasoning_content": "cde"}, {"tool_calls": calls})
    )

    assert attempt.received_tokens == 2 + 3 + len(orjson.dumps(calls))


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"exhausted all available targets to no avail"}',
        b'{"error":{"message":"boom"}}',
        b'{"status":500,"detail":"No result returned from upstream"}',
        b"{}",
    ],
)
def test_an_error_inside_a_200_counts_nothing(body: bytes) -> None:
    assert broken(body).received_tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"text"',
        b'{"choices":[{"message":{"content":"Hi"}}',
        b'{"choices":null}',
        b'{"choices":[]}',
        b'{"choices":{}}',
        b'{"choices":[null]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":null}]}',
        b'{"choices":[{"message":"Hi"}]}',
        b'{"choices":[{"message":{"content":"Hi"}},{"delta":{}}]}',
        b'{"choices":[{"message":{"content":"Hi"}}],"error":"boom"}',
        b'{"choices":[{"message":{"content":NaN}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":[{"message":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}",
        b"[" * 2000,
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
    ],
)
def test_what_is_no_answer_counts_its_bytes_as_it_may_be_one_all_the_same(body: bytes) -> None:
    assert broken(body).received_tokens == len(body)


@pytest.mark.parametrize("error", [None, "", False, {}])
def test_an_error_of_nothing_is_none(error: object) -> None:
    assert noted(answer({"content": "Hi"}, error=error)).complete


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "usage", "error", "content"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(value=json_values)
def test_whatever_json_comes_it_is_whole_or_broken_and_never_counts_more_than_its_bytes(
    value: object,
) -> None:
    body, attempt = json.dumps(value).encode(), Attempt()
    try:
        record_json_completion(body, attempt)
    except UpstreamBrokenError:
        assert not attempt.complete
    else:
        assert attempt.complete
    assert 0 <= attempt.received_tokens <= len(body)


@pytest.mark.parametrize(("size_bytes", "believed"), [(512 + 160, True), (512 + 161, False)])
def test_a_usage_far_below_the_text_that_came_is_refuted(size_bytes: int, believed: bool) -> None:  # noqa: FBT001 - a row of the table
    usage = {"prompt_tokens": 7, "completion_tokens": 10}
    texts = {"content": "é" * 100}, {"content": "a" * (size_bytes - 200)}
    attempt = noted(answer(*texts, {"content": None}, usage=usage))

    assert attempt.complete
    assert (attempt.usage, attempt.usage_disproved) == (Usage(7, 10), not believed)
    assert attempt.received_tokens >= size_bytes


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": "a" * 600},
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "a" * 600}}]},
    ],
)
def test_whatever_a_message_says_refutes_a_usage(message: dict[str, Any]) -> None:
    assert noted(answer(message, usage={"prompt_tokens": 7, "completion_tokens": 1})).usage_disproved


@pytest.mark.parametrize(
    "calls", [5, [5], [{}], [{"function": 5}], [{"function": {"arguments": {}}}], [{"x": "a" * 600}]]
)
def test_the_forms_around_what_is_said_refute_nothing(calls: object) -> None:
    message = {"role": "a" * 600, "content": "Hi", "tool_calls": calls}
    assert not noted(answer(message, usage={"prompt_tokens": 7, "completion_tokens": 1})).usage_disproved
