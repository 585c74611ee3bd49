"""A chat completion that is not streamed: the facts that decide its cost."""

from __future__ import annotations

import json
from json import JSONDecoder
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import (
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamRejectedError,
)
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.json_completion import record_json_completion
from ridges_proxy.upstream.large_json import (
    MAX_ITEMS,
    MAX_LEVELS,
    PIECE_CHARACTERS,
    parse_large_json,
)
from ridges_proxy.upstream.strict_json import LARGE_BYTES, strict_json
from tests.support.table import check_rows

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def completion(*messages: object, **more: object) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "message": message} for message in messages], **more}


def record(document: object) -> Attempt:
    attempt = Attempt()
    record_json_completion(orjson.dumps(document), attempt, "cpk_secret")
    return attempt


def record_broken(body: bytes) -> Attempt:
    attempt = Attempt()
    with pytest.raises(UpstreamBrokenError):
        record_json_completion(body, attempt, "cpk_secret")
    assert (attempt.complete, attempt.usage) == (False, None)
    return attempt


def test_a_completion_has_its_usage_and_the_bound_of_its_tokens() -> None:
    attempt = record(completion({"role": "assistant", "content": "Hié"}, usage=USAGE))

    assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, Usage(7, 3), 4)


def test_a_completion_of_which_a_choice_failed_is_broken_and_costs_its_usage() -> None:
    def check(row: tuple[str, int]) -> None:
        reason, failed = row
        document = completion({"content": "a"}, {"content": "b"}, usage=USAGE)
        for index, choice in enumerate(document["choices"]):
            choice["finish_reason"] = reason if index == failed else "stop"
        attempt = Attempt(choices=2)
        with pytest.raises(UpstreamBrokenError):
            record_json_completion(orjson.dumps(document), attempt, "cpk_secret")

        assert (attempt.complete, attempt.usage) == (True, Usage(7, 3))

    reasons = ("abort", "error", "insufficient_system_resource")
    check_rows([(reason, failed) for reason in reasons for failed in (0, 1)], check)


def test_a_completion_with_infinities_is_passed_on_as_strict_json() -> None:
    numbers = b'{"choices":[{"message":{"content":"NaN"},"logprobs":[-Infinity,NaN,Infinity,-0.5]}]}'
    attempt = Attempt()

    passed_on = record_json_completion(numbers, attempt, "cpk_secret")

    assert passed_on == (b'{"choices":[{"message":{"content":"NaN"},"logprobs":[-9999.0,null,null,-0.5]}]}')
    assert (attempt.complete, attempt.received_tokens) == (True, 3)


def test_each_constant_is_made_strict_by_itself() -> None:
    def check(row: tuple[bytes, bytes]) -> None:
        constant, strict = row
        content = b'{"choices":[{"message":{"content":"a"},"x":%b}]}'
        assert record_json_completion(content % constant, Attempt(), "cpk_secret") == content % strict

    check_rows([(b"NaN", b"null"), (b"Infinity", b"null"), (b"-Infinity", b"-9999.0")], check)


def test_a_completion_is_passed_on_byte_for_byte() -> None:
    content = b' {"choices" : [{"message":{"content":"NaN \\u00e9"}}], "x": 1e2}\n'
    assert record_json_completion(content, Attempt(), "cpk_secret") is content


def test_an_invalid_usage_leaves_the_bound() -> None:
    def check(usage: object) -> None:
        attempt = record(completion({"content": "Hi"}, usage=usage))

        assert (attempt.complete, attempt.usage, attempt.received_tokens) == (True, None, 2)

    check_rows([None, {}, [], 5, {"prompt_tokens": -1, "completion_tokens": 1}], check)


def test_all_choices_count_with_their_tools_and_reasoning() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    attempt = record(
        completion({"content": "ab"}, {"content": None, "reasoning_content": "cde"}, {"tool_calls": calls})
    )

    assert attempt.received_tokens == 2 + 3 + len(orjson.dumps(calls))


def test_an_error_object_in_place_of_a_response_is_an_error_status() -> None:
    rows: list[tuple[dict[str, Any], type[UpstreamError]]] = [
        ({"error": "exhausted all available targets to no avail"}, UpstreamFailedError),
        ({"error": {"message": "boom"}}, UpstreamFailedError),
        ({"status": 500, "detail": "No result returned from upstream"}, UpstreamFailedError),
        ({"error": {"message": "too long", "code": 400}}, UpstreamRejectedError),
        ({"object": "error", "message": "too long", "code": 400}, UpstreamRejectedError),
        ({"error": {"message": "busy", "code": 429}, "choices": []}, UpstreamBusyError),
    ]

    def check(row: tuple[dict[str, Any], type[UpstreamError]]) -> None:
        document, kind = row
        attempt = Attempt(answering=True)
        with pytest.raises(UpstreamError) as raised:
            record_json_completion(orjson.dumps(document), attempt, "cpk_secret")
        assert type(raised.value) is kind
        assert (attempt.refused, attempt.answering, attempt.complete) == (True, False, False)

    check_rows(rows, check)


def test_an_invalid_response_counts_its_bytes_because_it_may_be_billed() -> None:
    rows = [
        b"",
        b"<html>",
        b"{}",
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
        b'{"choices":[{"message":{"content":NaN}}',
        b'{"choices":[{"message":{"content":nan}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":[{"message":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}",
        b"[" * 2000,
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
    ]

    def check(body: bytes) -> None:
        assert record_broken(body).received_tokens == len(body)

    check_rows(rows, check)


def test_an_empty_error_is_not_an_error() -> None:
    def check(error: object) -> None:
        assert record(completion({"content": "Hi"}, error=error)).complete

    check_rows([None, "", False, {}], check)


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


@given(value=json_values)
def test_any_json_is_complete_or_broken_and_counts_at_most_its_bytes(value: object) -> None:
    body, attempt = json.dumps(value).encode(), Attempt()
    try:
        record_json_completion(body, attempt, "cpk_secret")
    except UpstreamError:
        assert not attempt.complete
    else:
        assert attempt.complete
    assert 0 <= attempt.received_tokens <= len(body)


def test_a_usage_that_the_received_text_exceeds_is_disproved() -> None:
    def check(row: tuple[int, bool]) -> None:
        size_bytes, disproved = row
        usage = {"prompt_tokens": 7, "completion_tokens": 10}
        texts = {"content": "é" * 100}, {"content": "a" * (size_bytes - 200)}
        attempt = record(completion(*texts, {"content": None}, usage=usage))

        assert attempt.complete
        assert (attempt.usage, attempt.usage_disproved) == (Usage(7, 10), disproved)
        assert attempt.received_tokens >= size_bytes

    check_rows([(10 * 128, False), (10 * 128 + 1, True)], check)


LOW_USAGE = {"prompt_tokens": 7, "completion_tokens": 1}


def test_reasoning_and_arguments_of_tools_disprove_a_usage_as_well() -> None:
    rows: list[dict[str, Any]] = [
        {"content": None, "reasoning_content": "a" * 600},
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "a" * 600}}]},
    ]

    def check(message: dict[str, Any]) -> None:
        assert record(completion(message, usage=LOW_USAGE)).usage_disproved

    check_rows(rows, check)


def test_a_role_and_the_json_around_arguments_do_not_disprove_a_usage() -> None:
    rows: list[object] = [
        5,
        [5],
        [{}],
        [{"function": 5}],
        [{"function": {"arguments": {}}}],
        [{"x": "a" * 600}],
    ]

    def check(calls: object) -> None:
        message = {"role": "a" * 600, "content": "Hi", "tool_calls": calls}
        assert not record(completion(message, usage=LOW_USAGE)).usage_disproved

    check_rows(rows, check)


TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5}]}
TOKENS = 1_600


def large(document: dict[str, Any]) -> bytes:
    """The document with log probabilities that make it large."""
    choices = [{**choice, "logprobs": {"content": [TOKEN] * TOKENS}} for choice in document["choices"]]
    content = orjson.dumps({**document, "choices": choices})
    assert len(content) > LARGE_BYTES
    return content


def test_a_large_completion_shows_the_same_as_a_small_one() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    rows = [
        completion({"content": "Hié"}, usage=USAGE),
        completion({"content": "Hi"}, {"content": None, "tool_calls": calls}),
        completion({"content": "a" * 600, "reasoning_content": "b"}, usage=USAGE),
        completion(
            {"content": "Hi", "x": {"y": [1.5, 10**15, None]}}, usage={**USAGE, "x": {"cached_tokens": 1}}
        ),
    ]

    def check(document: dict[str, Any]) -> None:
        small, attempt, content = record(document), Attempt(), large(document)
        assert record_json_completion(content, attempt, "cpk_secret") is content
        assert attempt == small

    check_rows(rows, check)


def test_a_large_completion_that_is_invalid_counts_its_bytes() -> None:
    valid = large(completion({"content": "Hi"}, usage=USAGE))

    def check(body: bytes) -> None:
        assert record_broken(body).received_tokens == len(body)

    deep = b"[" * 5_000 + b"]" * 5_000
    rows = [
        valid[:-1],
        valid + b"x",
        b"\xef\xbb\xbf" + valid,
        valid.replace(b'"Hi"', b'"\xff"'),
        valid.replace(b'"Hi"', b'"\\ud800"'),
        valid.replace(b'"Hi"', b'"' + b"\n" + b'"'),
        valid.replace(b'"Hi"', b'"Hi","x":' + deep),
        valid.replace(b'"Hi"', b'"Hi","x":' + b"1" * 5_000),
        valid.replace(b'"message"', b'"delta"'),
    ]
    check_rows(rows, check)


def test_a_large_completion_with_infinities_is_passed_on_as_strict_json() -> None:
    content = large(completion({"content": "NaN -Infinity \\"}, usage=USAGE)).replace(b"-0.5", b"-Infinity")
    attempt = Attempt()

    passed_on = record_json_completion(content, attempt, "cpk_secret")

    assert passed_on == content.replace(b":-Infinity", b":-9999.0")
    assert (attempt.complete, attempt.usage) == (True, Usage(7, 3))


def test_a_completion_is_parsed_once_and_a_large_one_not_in_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[int] = []
    loads = orjson.loads

    def measured(data: bytes) -> object:
        parsed.append(len(data))
        return loads(data)

    monkeypatch.setattr(orjson, "loads", measured)
    small = orjson.dumps(completion({"content": "Hi"}))
    for content in (small, large(completion({"content": "Hi"}))):
        assert record_json_completion(content, Attempt(), "cpk_secret") is content
    assert parsed == [len(small)]


def test_a_large_completion_is_parsed_in_pieces_of_which_no_token_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two pieces other threads may run. A string may be longer than a piece."""
    content = large(completion({"content": "\n" * PIECE_CHARACTERS}))
    pieces: list[int] = []
    decode = JSONDecoder.raw_decode

    def measured(decoder: JSONDecoder, text: str, start: int = 0) -> tuple[Any, int]:
        pieces.append(len(text))
        return decode(decoder, text, start)

    monkeypatch.setattr(JSONDecoder, "raw_decode", measured)
    _, document = parse_large_json(content)
    assert max(pieces) == PIECE_CHARACTERS
    assert document["choices"][0]["logprobs"] == {"content": [None] * TOKENS}


def test_a_large_completion_may_have_many_tokens_but_not_many_other_values() -> None:
    """The same values are refused in one list, and as many lists of usual size."""
    token = b'{"logprob":-0.5},'
    lists = b"[" + b"[]," * 1_000 + b"0],"
    opened = b"[" + b"0," * PIECE_CHARACTERS + b"0],"
    rows = [
        (token * 500_000, True),
        (token * (MAX_ITEMS + 1), False),
        (b"0," * 500_000, True),
        (b"0," * (MAX_ITEMS + 1), False),
        (lists * 65, True),
        (lists * 66, False),
        (opened * 30, True),
        (opened * 32, False),
        (b"[" * MAX_LEVELS + opened * 8 + b"0" + b"]" * MAX_LEVELS + b",", False),
        (b"[" * 100 + opened * 8 + b"0" + b"]" * 100 + b",", True),
    ]

    def check(row: tuple[bytes, bool]) -> None:
        items, is_accepted = row
        content = b'{"choices":[{"message":{"content":"Hi"}}],"x":[' + items + b"0]}"
        attempt = Attempt()
        try:
            record_json_completion(content, attempt, "cpk_secret")
        except UpstreamBrokenError:
            assert attempt.received_tokens == len(content)
        assert attempt.complete == is_accepted

    check_rows(rows, check)


def test_nothing_keeps_what_was_read_of_a_large_completion_that_is_invalid() -> None:
    """To free many values takes long, so the thread that read them has to do it."""
    with pytest.raises(ValueError, match="no JSON") as raised:
        parse_large_json(large(completion({"content": "Hi"}))[:-1])
    assert raised.value.__context__ is None
    assert [each.name for each in raised.traceback][1:] == ["parse_large_json"]


@given(value=json_values)
def test_large_json_has_the_value_that_other_json_has(value: object) -> None:
    """The text has parts of all kinds that are larger than a piece, with spaces between all of them."""
    long = " " * PIECE_CHARACTERS
    text = json.dumps({"a": value, long: [long, {"b": value}, [value]]}, indent=1).replace("\n", f"\n{long}")
    data = text.encode()

    strict, parsed = parse_large_json(data, lambda each: each)

    assert strict == (strict_json(data) or data)
    assert parsed == orjson.loads(strict_json(data.replace(b"-Infinity", b"NaN")) or data)
