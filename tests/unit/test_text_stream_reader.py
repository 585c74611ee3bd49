from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage
from ridges_proxy.errors import UpstreamBrokenError, UpstreamOverranError
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.chunk_tokens import max_tokens_of
from ridges_proxy.upstream.sse import Event
from ridges_proxy.upstream.stream_reader import FAILURE_TEXTS, TextStreamReader
from ridges_proxy.upstream.usage import BYTES_PER_TOKEN, SLACK_BYTES, parse_usage

DONE = Event(b"[DONE]")


def event(value: object) -> Event:
    return Event(json.dumps(value).encode())


def chunk(
    content: object = "", chunk_id: object = "one", *, role: bool = False, finish: str | None = None
) -> Event:
    delta = {"content": content} | ({"role": "assistant"} if role else {})
    return event({"id": chunk_id, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def usage_event(prompt: object, completion: object, **more: object) -> Event:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return event({"id": "one", "choices": [], "usage": usage})


def read(*events: Event, choices: int = 1) -> tuple[str, Attempt]:
    attempt = Attempt(choices=choices)
    completion = TextStreamReader(attempt)
    for each in events:
        completion.add(each)
    return completion.text(), attempt


def added(*events: Event, choices: int = 1) -> Attempt:
    """What the attempt shows after events that are no whole answer."""
    attempt = Attempt(choices=choices)
    completion = TextStreamReader(attempt)
    for each in events:
        completion.add(each)
    with pytest.raises(UpstreamBrokenError):
        completion.text()
    return attempt


# --- text --------------------------------------------------------------------------------------------------


def test_the_text_is_all_contents_in_their_order() -> None:
    text, attempt = read(chunk("", role=True), chunk("Hel"), chunk("lo"), chunk("", finish="stop"), DONE)

    assert text == "Hello"
    assert attempt.complete


def test_the_text_keeps_every_letter() -> None:
    services = [" ", "\n", "é\u2028\U0001f600", "\x00", " "]

    assert read(*map(chunk, services), DONE)[0] == "".join(services)


@pytest.mark.parametrize("content", [None, 5, 1.5, True, [], ["a"], {}, {"text": "a"}])
def test_a_content_that_is_no_text_adds_none(content: object) -> None:
    assert read(chunk("a"), chunk(content), chunk("b"), DONE)[0] == "ab"


def test_an_answer_of_reasoning_only_is_empty_but_counts() -> None:
    thought = event({"choices": [{"delta": {"content": None, "reasoning_content": "hm é"}}]})

    text, attempt = read(thought, chunk(None, finish="stop"))

    assert (text, attempt.received_tokens) == ("", 5 + 1)


def test_an_answer_without_any_text_is_whole_and_empty() -> None:
    assert read(DONE) == ("", Attempt(complete=True))


def test_only_the_first_choice_is_read_but_all_count() -> None:
    choices = [{"delta": {"content": "ab"}}, {"delta": {"content": "cdef"}}]

    text, attempt = read(event({"choices": choices}), DONE, choices=2)

    assert (text, attempt.received_tokens) == ("ab", 6)


def test_more_choices_than_were_asked_for_are_no_answer_and_count_with_all_their_bytes() -> None:
    attempt, both = Attempt(), event({"choices": [{"delta": {"content": "ab"}}, {}]})

    with pytest.raises(UpstreamBrokenError):
        TextStreamReader(attempt).add(both)

    assert attempt.received_tokens == len(both.data)


def test_the_finish_of_another_choice_does_not_complete_the_first() -> None:
    choices = [{"delta": {"content": "ab"}}, {"delta": {"content": "cd"}, "finish_reason": "stop"}]

    assert not added(event({"choices": choices}), choices=2).complete


# --- completeness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        DONE,
        chunk("", finish="stop"),
        chunk("", finish="length"),
        usage_event(3, 1),
        event({"usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
        event({"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
    ],
)
def test_an_answer_is_whole_once_its_end_has_come(last: Event) -> None:
    text, attempt = read(chunk("a"), last)

    assert text == "a"
    assert attempt.complete


@pytest.mark.parametrize(
    "last",
    [
        chunk("b"),
        chunk("b", finish=None),
        chunk("b", finish=""),
        event({"choices": []}),
        event({"choices": [], "usage": None}),
        usage_event(0, 0),
        event({"id": "one", "choices": [{"delta": {"content": "b"}}], "usage": {"prompt_tokens": 3}}),
        event({"status": 500, "detail": "gone"}),
        event({}),
    ],
)
def test_an_answer_that_stops_before_its_end_is_broken(last: Event) -> None:
    assert not added(chunk("a"), last).complete


def test_an_answer_of_nothing_is_broken() -> None:
    assert not added().complete


def test_only_done_ends_the_reading() -> None:
    completion = TextStreamReader(Attempt())
    for each in (chunk("a"), chunk("", finish="stop"), usage_event(3, 1)):
        completion.add(each)
        assert not completion.done

    completion.add(DONE)

    assert completion.done


def test_text_that_follows_a_finish_is_still_read() -> None:
    assert read(chunk("a", finish="stop"), chunk("b"), DONE)[0] == "ab"


# --- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ("10", None),
        (10, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": None}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached": 1}}, Usage(7, 5)),
        ({"prompt_tokens": 7}, None),
        ({"completion_tokens": 5}, None),
        ({"prompt_tokens": 0, "completion_tokens": 5}, None),
        ({"total_tokens": 12}, Usage(0, 12)),
        ({"prompt_tokens": 7, "total_tokens": 12}, Usage(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 20}, Usage(7, 13)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 3}, Usage(7, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": 7, "completion_tokens": 0}, Usage(7, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": -5}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": -12}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": False}, None),
        ({"prompt_tokens": 7.0, "completion_tokens": 5}, None),
        ({"prompt_tokens": "7", "completion_tokens": 5}, None),
        ({"prompt_tokens": [7], "completion_tokens": 5}, None),
        ({"prompt_tokens": MAX_COUNTED_TOKENS, "completion_tokens": 1}, Usage(MAX_COUNTED_TOKENS, 1)),
        ({"prompt_tokens": MAX_COUNTED_TOKENS + 1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 7, "completion_tokens": 2**70}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 10**12}, None),
    ],
)
def test_a_usage_is_taken_only_if_it_makes_sense(value: object, expected: Usage | None) -> None:
    assert parse_usage(value) == expected


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"cached_tokens": 3}, 3),
        ({"cached_tokens": 0}, 0),
        ({"cached_tokens": 7}, 7),
        ({"cached_tokens": 3, "audio_tokens": 1}, 3),
        (None, 0),
        ({}, 0),
        ([], 0),
        ("3", 0),
        (3, 0),
        ([{"cached_tokens": 3}], 0),
        ({"cached_tokens": None}, 0),
        ({"cached_tokens": True}, 0),
        ({"cached_tokens": 3.0}, 0),
        ({"cached_tokens": "3"}, 0),
        ({"cached_tokens": [3]}, 0),
        ({"cached_tokens": -1}, 0),
        ({"cached_tokens": 8}, 0),
        ({"cached_tokens": 2**70}, 0),
    ],
)
def test_what_was_cached_is_believed_only_as_a_count_within_the_prompt(details: object, cached: int) -> None:
    value = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": details}

    assert parse_usage(value) == Usage(7, 5, cached)


def test_nothing_is_cached_of_a_prompt_that_is_not_told() -> None:
    assert parse_usage({"total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}) == Usage(0, 12)


odd_values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers())


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(prompt=st.integers(0, 100), cached=odd_values | st.integers(-10, 110))
def test_a_usage_never_has_more_cached_than_the_prompt(prompt: int, cached: object) -> None:
    value = {"prompt_tokens": prompt, "total_tokens": 200, "prompt_tokens_details": {"cached_tokens": cached}}

    usage = parse_usage(value)

    assert usage is not None
    assert 0 <= usage.cached_tokens <= usage.prompt_tokens


@pytest.mark.parametrize("raw", [b"1e999", b"NaN", b"99999999999999999999999", b"1e3"])
def test_a_number_that_is_no_count_on_the_wire_is_no_usage(raw: bytes) -> None:
    attempt = Attempt()
    last = Event(b'{"choices": [], "usage": {"prompt_tokens": %s, "completion_tokens": 5}}' % raw)

    try:
        TextStreamReader(attempt).add(last)
    except UpstreamBrokenError:
        assert raw in {b"1e999", b"NaN"}, "these are no JSON"

    assert attempt.usage is None
    assert not attempt.complete


SEVEN = {"prompt_tokens": 7, "completion_tokens": 0}


def test_the_latest_usage_counts() -> None:
    running = event({"choices": [{"delta": {"content": "a"}}], "usage": SEVEN})
    senseless = event({"choices": [], "usage": {"prompt_tokens": -1}})

    _, attempt = read(running, usage_event(7, 3), usage_event(7, 5), senseless, event({"usage": None}), DONE)

    assert attempt.usage == Usage(7, 5)


def test_a_usage_beside_a_choice_counts_but_does_not_complete() -> None:
    both = event({"choices": [{"delta": {"content": "a"}}], "usage": SEVEN})

    attempt = added(both)

    assert (attempt.usage, attempt.complete) == (Usage(7, 0), False)


def test_the_usage_of_a_malformed_chunk_counts_all_the_same() -> None:
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        TextStreamReader(attempt).add(event({"choices": "none", "usage": SEVEN}))

    assert attempt.usage == Usage(7, 0)


def test_an_answer_that_goes_on_past_max_tokens_is_cut_off() -> None:
    attempt = Attempt(max_tokens=3)
    completion = TextStreamReader(attempt)
    completion.add(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
    for _ in range(3):
        completion.add(chunk("word "))

    with pytest.raises(UpstreamOverranError):
        completion.add(chunk("more"))

    assert (attempt.received_tokens, attempt.complete) == (1 + 3 * 5 + 4, False)


@pytest.mark.parametrize("kind", ["content", "reasoning_content", "arguments"])
def test_few_deltas_that_say_more_than_max_tokens_can_are_cut_off(kind: str) -> None:
    attempt = Attempt(max_tokens=10)
    completion = TextStreamReader(attempt)
    one, most = "é" * 100, (10 * BYTES_PER_TOKEN + SLACK_BYTES) // 200
    call = {"tool_calls": [{"index": 0, "function": {"arguments": one}}]}
    delta = event({"choices": [{"delta": call if kind == "arguments" else {kind: one}}]})
    for _ in range(most):
        completion.add(delta)

    with pytest.raises(UpstreamOverranError):
        completion.add(delta)

    assert attempt.received_tokens >= (most + 1) * 200


def test_the_forms_around_many_small_arguments_cut_nothing_off() -> None:
    call = {"tool_calls": [{"index": 0, "id": "call", "type": "function", "function": {"arguments": "a"}}]}
    attempt = Attempt(max_tokens=200)
    completion = TextStreamReader(attempt)
    for _ in range(200):
        completion.add(event({"choices": [{"delta": call}]}))

    assert attempt.text_bytes == 200


def test_what_comes_behind_the_end_of_an_answer_is_an_answer_without_an_end() -> None:
    for end in (usage_event(7, 1), chunk("", finish="stop")):
        assert not added(chunk("a"), end, chunk("b")).complete
        assert read(chunk("a"), end, chunk("b"), chunk("", finish="stop"))[0] == "ab"


def test_what_says_nothing_behind_the_end_of_an_answer_changes_nothing() -> None:
    assert read(chunk("a", finish="stop"), chunk(""), event({"choices": [{"delta": {}}]}))[1].complete


# --- a second try inside one stream ------------------------------------------------------------------------


def test_a_second_stream_replaces_the_text_and_both_count() -> None:
    first = [chunk("", "one", role=True), chunk("Hello wor", "one")]
    second = [chunk("", "two", role=True), chunk("Hello ", "two"), chunk("world", "two", finish="stop")]

    text, attempt = read(*first, *second, DONE)

    assert text == "Hello world"
    assert attempt.received_tokens == (1 + 9) + (1 + 6 + 5)


def test_a_second_stream_without_a_role_replaces_the_text_of_a_first_of_several_chunks() -> None:
    assert read(chunk("a"), chunk("b"), chunk("ab", "two"), chunk("c", "two"), DONE)[0] == "abc"


def test_a_second_stream_with_a_role_replaces_a_first_of_one_chunk() -> None:
    assert read(chunk("a", role=True), chunk("ab", "two", role=True), chunk("c", "two"), DONE)[0] == "abc"


def test_a_third_stream_replaces_the_second() -> None:
    streams = [chunk(text, chunk_id, role=True) for text, chunk_id in (("a", "1"), ("ab", "2"), ("abc", "3"))]

    assert read(*streams, DONE)[0] == "abc"


def test_a_second_stream_has_to_come_to_an_end_of_its_own() -> None:
    attempt = added(chunk("a"), chunk("b", finish="stop"), chunk("ab", "two", role=True))

    assert not attempt.complete


def test_the_usage_of_a_first_stream_is_not_the_seconds() -> None:
    both = event({"id": "one", "choices": [{"delta": {"content": "a"}}], "usage": SEVEN})

    _, attempt = read(both, both, chunk("b" * 50, "two", role=True), DONE)

    assert (attempt.usage, attempt.received_tokens) == (None, 52)


def test_each_stream_may_be_as_long_as_was_asked_for() -> None:
    completion = TextStreamReader(Attempt(max_tokens=2))
    for one in (chunk("a"), chunk("b"), chunk("ab", "two"), chunk("c", "two", finish="length")):
        completion.add(one)

    assert completion.text() == "abc"

    with pytest.raises(UpstreamOverranError):
        completion.add(chunk("d", "two"))


@pytest.mark.parametrize("most", ["deltas", "bytes"])
def test_all_streams_together_may_be_twice_as_long(most: str) -> None:
    attempt = Attempt(max_tokens=100)
    completion = TextStreamReader(attempt)
    said = "a" if most == "deltas" else "a" * ((100 * BYTES_PER_TOKEN + SLACK_BYTES) // 60)
    each = 100 if most == "deltas" else 60
    for one in range(2):
        for _ in range(each - 10 * (1 - one)):
            completion.add(chunk(said, f"{one}", role=True))
    for _ in range(10):
        completion.add(chunk(said, "2", role=True))

    with pytest.raises(UpstreamOverranError):
        completion.add(chunk(said, "2"))


def test_an_id_for_each_chunk_is_no_new_start() -> None:
    chunks = [chunk("", "0", role=True), *(chunk(letter, letter) for letter in "abcd")]

    assert read(*chunks, DONE)[0] == "abcd"


@pytest.mark.parametrize("chunk_id", [None, "", 0])
def test_chunks_without_an_id_are_no_new_start(chunk_id: object) -> None:
    chunks = [chunk("a"), chunk("b"), chunk("c", chunk_id), chunk("d", chunk_id)]

    assert read(*chunks, DONE)[0] == "abcd"


def test_the_id_of_an_event_without_choices_is_no_new_start() -> None:
    other = event({"id": "two", "choices": [], "usage": {"prompt_tokens": 3}})

    assert read(chunk("a"), chunk("b"), other, chunk("c"), DONE)[0] == "abc"


def test_an_id_of_an_odd_type_is_an_id() -> None:
    assert read(chunk("a", ["x"]), chunk("b", ["x"]), chunk("c", {"y": 1}), DONE)[0] == "c"


# --- failures inside a 200 ---------------------------------------------------------------------------------


def broken_by(broken: Event) -> Attempt:
    attempt = Attempt()
    completion = TextStreamReader(attempt)
    completion.add(chunk("ab"))
    with pytest.raises(UpstreamBrokenError):
        completion.add(broken)
    return attempt


@pytest.mark.parametrize(
    "error",
    [
        event({"error": "boom"}),
        event({"error": {"message": "boom"}}),
        Event(b'{"error":"boom"}', bare=True),
        Event(b'{"status":500,"detail":"gone"}', bare=True),
        Event(b"{}", bare=True),
    ],
)
def test_an_error_event_breaks_the_answer_and_counts_nothing(error: Event) -> None:
    assert broken_by(error).received_tokens == 2, "what had come before"


@pytest.mark.parametrize(
    "senseless",
    [
        event({"error": {"message": "boom"}, "choices": [{"delta": {"content": "a"}}]}),
        Event(b'{"choices":[]}', bare=True),
        Event(b"[DONE]x"),
        Event(b" [DONE]"),
        Event(b"{"),
        Event(b"{}{}"),
        Event(b'{"a":NaN}'),
        Event(b'{"a":"\xff"}'),
        Event(b'{"a":"\\ud800"}'),
        Event(b"[" * 100_000),
        event([]),
        event(None),
        event("text"),
        event(5),
        event({"choices": "none"}),
        event({"choices": {"delta": {}}}),
        event({"choices": 5}),
        event({"choices": [None]}),
        event({"choices": ["a"]}),
        event({"choices": [[{"delta": {}}]]}),
        event({"choices": [{"delta": ["a"]}]}),
        event({"choices": [{"delta": "a"}]}),
        event({"choices": [{"delta": 5}]}),
        Event(b'{"choices":[{"delta":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}"),
    ],
)
def test_an_event_that_makes_no_sense_breaks_the_answer_and_counts_its_bytes(senseless: Event) -> None:
    assert broken_by(senseless).received_tokens == 2 + len(senseless.data)


def test_an_event_without_data_keeps_the_connection_open_and_changes_nothing() -> None:
    text, attempt = read(chunk("a"), Event(b""), chunk("b"), DONE)

    assert (text, attempt.received_tokens) == ("ab", 2)


@pytest.mark.parametrize("error", [None, "", False, {}])
def test_an_error_of_nothing_is_none(error: object) -> None:
    assert read(event({"error": error, "choices": [{"delta": {"content": "a"}}]}), DONE)[0] == "a"


@pytest.mark.parametrize("choice", [{}, {"delta": None}, {"delta": {}}, {"delta": []}, {"delta": 0}])
def test_a_choice_without_a_delta_is_empty(choice: object) -> None:
    text, attempt = read(chunk("a"), event({"choices": [choice]}), DONE)

    assert (text, attempt.received_tokens) == ("a", 1)


def test_the_failure_texts_are_those_of_the_contract() -> None:
    assert FAILURE_TEXTS == ("Internal Server Error", "exhausted all available targets")


@pytest.mark.parametrize("failure", ["Internal Server Error", "exhausted all available targets"])
def test_an_answer_that_says_it_failed_has_failed(failure: str) -> None:
    events = [
        chunk("so: "),
        chunk(failure[:7]),
        chunk(failure[7:]),
        chunk(" to no avail", finish="stop"),
        DONE,
    ]

    assert added(*events).complete, "it came to its end, and is charged as that"


def test_a_failure_text_of_a_try_that_was_replaced_is_forgotten() -> None:
    replaced = [chunk("", role=True), chunk("Internal Server Error")]

    assert read(*replaced, chunk("fine", "two", role=True), DONE)[0] == "fine"


def test_the_letter_case_of_a_failure_text_matters() -> None:
    assert read(chunk("an internal server error"), DONE)[0] == "an internal server error"


# --- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "most_tokens"),
    [
        ({}, 0),
        ({"role": "assistant"}, 0),
        ({"role": "assistant", "content": ""}, 1),
        ({"content": ""}, 1),
        ({"content": None}, 1),
        ({"content": 5}, 1),
        ({"content": "a"}, 1),
        ({"content": "hello"}, 5),
        ({"content": "é"}, 2),
        ({"content": "\U0001f600"}, 4),
        ({"content": "ab", "reasoning_content": "cde"}, 5),
        ({"reasoning": "abc"}, 3),
        ({"refusal": None, "tool_calls": []}, 0),
        ({"content": ["ab"]}, len('["ab"]')),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, 44),
    ],
)
def test_a_delta_counts_at_most_the_bytes_of_its_texts(delta: dict[str, Any], most_tokens: int) -> None:
    assert max_tokens_of(delta) == most_tokens


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def texts_bytes(value: object) -> int:
    """All strings that a value holds, whatever its shape."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(map(texts_bytes, value.values()))
    return sum(map(texts_bytes, value)) if isinstance(value, list) else 0


@settings(deadline=None, derandomize=True, max_examples=200)
@given(delta=st.dictionaries(st.sampled_from(["content", "tool_calls", "x"]), json_values))
def test_no_text_of_a_delta_escapes_the_bound(delta: dict[str, Any]) -> None:
    assert max_tokens_of(delta) >= texts_bytes(delta)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    value=json_values
    | st.fixed_dictionaries({"id": json_values, "choices": json_values, "usage": json_values})
)
def test_whatever_json_comes_is_understood_or_broken(value: object) -> None:
    completion = TextStreamReader(Attempt())
    try:
        completion.add(event(value))
        completion.text()
    except UpstreamBrokenError:
        pass


# --- a usage that cannot be true


@pytest.mark.parametrize(
    ("reported", "deltas", "believed"),
    [(100, 264, True), (100, 265, False), (0, 64, True), (0, 65, False), (1_000, 1_000, True)],
)
def test_a_usage_far_below_the_events_that_came_is_refuted(
    reported: int,
    deltas: int,
    believed: bool,  # noqa: FBT001 - a row of the table
) -> None:
    _, attempt = read(*[chunk("a")] * deltas, usage_event(7, reported))
    assert (attempt.usage, attempt.usage_disproved) == (Usage(7, reported), not believed)
    assert attempt.complete
    assert attempt.received_tokens == deltas


def test_a_usage_far_below_what_few_events_say_is_refuted() -> None:
    _, attempt = read(*[chunk("word " * 100)] * 60, usage_event(7, 0), DONE)
    assert (attempt.deltas, attempt.text_bytes, attempt.usage_disproved) == (60, 30_000, True)


def test_a_true_usage_behind_a_refuted_one_counts() -> None:
    _, attempt = read(*[chunk("a")] * 100, usage_event(7, 1), usage_event(7, 100))
    assert (attempt.usage, attempt.usage_disproved) == (Usage(7, 100), False)


def test_a_usage_is_refuted_by_what_comes_behind_it_too() -> None:
    _, attempt = read(usage_event(7, 1), *[chunk("a")] * 200, DONE)
    assert attempt.usage_disproved


@pytest.mark.parametrize("deltas", [2, 200])
def test_the_usage_of_a_second_stream_is_held_against_that_stream(deltas: int) -> None:
    first, second = [chunk("a" * 900, "one")] * 200, [chunk("a", "two", role=True), chunk("a", "two")]
    _, attempt = read(*first, *second, *[chunk("a", "two")] * (deltas - 2), usage_event(7, 10), DONE)
    assert attempt.usage_disproved == (deltas == 200)
    assert attempt.received_tokens == 200 * 900 + deltas
