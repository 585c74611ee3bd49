"""The text of a streamed chat completion, and the facts that decide its cost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import UpstreamBrokenError, UpstreamOverranError
from ridges_proxy.runtime.json_structure import MAX_MARKS, all_marks
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.sse import Event
from ridges_proxy.upstream.stream_reader import FAILURE_TEXTS, TextStreamReader
from ridges_proxy.upstream.usage import BYTES_PER_TOKEN
from tests.support.table import check_rows

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
    reader = TextStreamReader(attempt)
    for each in events:
        reader.add(each)
    return reader.text(), attempt


def read_incomplete(*events: Event, choices: int = 1) -> Attempt:
    """Read events that are not a complete answer, and return the attempt."""
    attempt = Attempt(choices=choices)
    reader = TextStreamReader(attempt)
    for each in events:
        reader.add(each)
    with pytest.raises(UpstreamBrokenError):
        reader.text()
    return attempt


# --- text --------------------------------------------------------------------------------------------------


def test_the_text_is_all_contents_in_their_order() -> None:
    text, attempt = read(chunk("", role=True), chunk("Hel"), chunk("lo"), chunk("", finish="stop"), DONE)

    assert text == "Hello"
    assert attempt.complete


def test_the_text_keeps_every_character() -> None:
    texts = [" ", "\n", "é\u2028\U0001f600", "\x00", " "]

    assert read(*map(chunk, texts), DONE)[0] == "".join(texts)


def test_a_content_that_is_not_a_text_adds_nothing() -> None:
    def check(content: object) -> None:
        assert read(chunk("a"), chunk(content), chunk("b"), DONE)[0] == "ab"

    check_rows([None, 5, 1.5, True, [], ["a"], {}, {"text": "a"}], check)


def test_a_completion_of_reasoning_only_is_empty_but_its_tokens_count() -> None:
    thought = event({"choices": [{"delta": {"content": None, "reasoning_content": "hm é"}}]})

    text, attempt = read(thought, chunk(None, finish="stop"))

    assert (text, attempt.received_tokens) == ("", 5 + 1)


def test_a_completion_without_text_is_complete_and_empty() -> None:
    assert read(DONE) == ("", Attempt(complete=True, began=True))


def test_only_the_text_of_the_first_choice_is_kept_but_all_choices_count() -> None:
    choices = [{"delta": {"content": "ab"}}, {"delta": {"content": "cdef"}}]

    text, attempt = read(event({"choices": choices}), DONE, choices=2)

    assert (text, attempt.received_tokens) == ("ab", 6)


def test_more_choices_than_requested_break_the_stream_and_count_their_bytes() -> None:
    attempt, both = Attempt(), event({"choices": [{"delta": {"content": "ab"}}, {}]})

    with pytest.raises(UpstreamBrokenError):
        TextStreamReader(attempt).add(both)

    assert attempt.received_tokens == len(both.data)


def test_the_finish_of_another_choice_does_not_complete_the_first() -> None:
    choices = [{"delta": {"content": "ab"}}, {"delta": {"content": "cd"}, "finish_reason": "stop"}]

    assert not read_incomplete(event({"choices": choices}), choices=2).complete


# --- completeness ------------------------------------------------------------------------------------------


def test_a_completion_is_complete_once_its_end_was_received() -> None:
    rows: list[Event] = [
        DONE,
        chunk("", finish="stop"),
        chunk("", finish="length"),
        usage_event(3, 1),
        event({"usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
        event({"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
    ]

    def check(last: Event) -> None:
        text, attempt = read(chunk("a"), last)

        assert text == "a"
        assert attempt.complete

    check_rows(rows, check)


def test_a_completion_that_stops_before_its_end_is_broken() -> None:
    rows: list[Event] = [
        chunk("b"),
        chunk("b", finish=None),
        chunk("b", finish=""),
        event({"choices": []}),
        event({"choices": [], "usage": None}),
        usage_event(0, 0),
        event({"id": "one", "choices": [{"delta": {"content": "b"}}], "usage": {"prompt_tokens": 3}}),
        event({"status": 500, "detail": "gone"}),
        event({}),
    ]

    def check(last: Event) -> None:
        assert not read_incomplete(chunk("a"), last).complete

    check_rows(rows, check)


def test_an_empty_stream_is_broken() -> None:
    assert not read_incomplete().complete


def test_only_done_ends_the_reading() -> None:
    reader = TextStreamReader(Attempt())
    for each in (chunk("a"), chunk("", finish="stop"), usage_event(3, 1)):
        reader.add(each)
        assert not reader.done

    reader.add(DONE)

    assert reader.done


def test_spaces_around_the_data_of_an_event_do_not_matter() -> None:
    for done in (b"[DONE] ", b" [DONE]", b"\t[DONE]\t", b"[DONE]\n"):
        assert read(chunk("a"), Event(b"  "), Event(done))[1].complete


def test_text_after_a_finish_reason_is_still_read() -> None:
    assert read(chunk("a", finish="stop"), chunk("b"), DONE)[0] == "ab"


# --- usage -------------------------------------------------------------------------------------------------


def test_a_json_number_that_is_not_a_count_is_not_a_usage() -> None:
    def check(raw: bytes) -> None:
        attempt = Attempt()
        last = Event(b'{"choices": [], "usage": {"prompt_tokens": %s, "completion_tokens": 5}}' % raw)

        try:
            TextStreamReader(attempt).add(last)
        except UpstreamBrokenError:
            assert raw in {b"1e999", b"NaN"}, "these are not JSON"

        assert attempt.usage is None
        assert not attempt.complete

    check_rows([b"1e999", b"NaN", b"99999999999999999999999", b"1.5"], check)


SEVEN = {"prompt_tokens": 7, "completion_tokens": 0}


def test_the_latest_usage_counts() -> None:
    running = event({"choices": [{"delta": {"content": "a"}}], "usage": SEVEN})
    invalid = event({"choices": [], "usage": {"prompt_tokens": -1}})

    _, attempt = read(running, usage_event(7, 3), usage_event(7, 5), invalid, event({"usage": None}), DONE)

    assert attempt.usage == Usage(7, 5)


def test_a_usage_beside_a_choice_counts_but_does_not_complete_the_response() -> None:
    both = event({"choices": [{"delta": {"content": "a"}}], "usage": SEVEN})

    attempt = read_incomplete(both)

    assert (attempt.usage, attempt.complete) == (Usage(7, 0), False)


def test_a_completion_beyond_max_tokens_is_cut_off() -> None:
    attempt = Attempt(max_tokens=3)
    reader = TextStreamReader(attempt)
    reader.add(event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))
    for _ in range(3):
        reader.add(chunk("word "))

    with pytest.raises(UpstreamOverranError):
        reader.add(chunk("more"))

    assert (attempt.received_tokens, attempt.complete) == (1 + 3 * 5 + 4, False)


def test_few_deltas_with_more_text_than_max_tokens_can_have_are_cut_off() -> None:
    def check(kind: str) -> None:
        attempt = Attempt(max_tokens=10)
        reader = TextStreamReader(attempt)
        text, count = "é" * 100, (10 * BYTES_PER_TOKEN) // 200
        call = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        delta = event({"choices": [{"delta": call if kind == "arguments" else {kind: text}}]})
        for _ in range(count):
            reader.add(delta)

        with pytest.raises(UpstreamOverranError):
            reader.add(delta)

        assert attempt.received_tokens >= (count + 1) * 200

    check_rows(["content", "reasoning_content", "arguments"], check)


def test_the_longest_text_of_max_tokens_is_not_cut_off() -> None:
    reader = TextStreamReader(Attempt(max_tokens=10))
    reader.add(chunk("a" * 10 * BYTES_PER_TOKEN))
    with pytest.raises(UpstreamOverranError):
        reader.add(chunk("a"))


def test_an_answer_of_few_long_tokens_is_neither_cut_nor_doubted() -> None:
    """A run of one character, as in a table's border or in closing braces, has up to 128 bytes per token."""

    def check(row: tuple[str, int]) -> None:
        text, tokens = row
        attempt = Attempt(max_tokens=64)
        reader = TextStreamReader(attempt)
        for start in range(0, len(text), 120):
            reader.add(chunk(text[start : start + 120]))
        reader.add(usage_event(7, tokens))

        assert reader.text() == text
        assert (attempt.usage_disproved, attempt.counted_usage) == (False, Usage(7, tokens))

    braces = "\n".join(" " * 2 * level + "}" for level in reversed(range(60)))
    check_rows([("#" * 120 * 30, 60), (braces, 60)], check)


def test_reasoning_that_is_sent_under_two_names_counts_once() -> None:
    text = "мысль " * 40
    attempt = Attempt(max_tokens=10)
    reader = TextStreamReader(attempt)
    reader.add(event({"choices": [{"delta": {"reasoning": text, "reasoning_content": text}}]}))
    assert attempt.received_tokens == attempt.text_bytes == len(text.encode())


def test_the_json_around_many_small_arguments_does_not_count_as_text() -> None:
    call = {"tool_calls": [{"index": 0, "id": "call", "type": "function", "function": {"arguments": "a"}}]}
    attempt = Attempt(max_tokens=200)
    reader = TextStreamReader(attempt)
    for _ in range(200):
        reader.add(event({"choices": [{"delta": call}]}))

    assert attempt.text_bytes == 200


def test_text_beyond_max_tokens_beside_an_end_makes_the_completion_incomplete() -> None:
    """Its cost then has the tokens that are made until the upstream notices that it was cut off."""

    def check(row: tuple[str, dict[str, object]]) -> None:
        finish, usage = row
        attempt = Attempt(max_tokens=1)
        reader = TextStreamReader(attempt)
        reader.add(chunk("a"))
        last = {"delta": {"content": "b"}, "finish_reason": finish}
        with pytest.raises(UpstreamOverranError):
            reader.add(event({"id": "one", "choices": [last], **usage}))

        assert not attempt.complete
        assert attempt.counted_usage is None or attempt.counted_usage.completion_tokens > 2

    check_rows([("stop", {}), ("length", {}), ("stop", {"usage": SEVEN})], check)


def test_a_completion_whose_finish_reason_is_a_failure_is_broken() -> None:
    def check(row: tuple[str, list[Event]]) -> None:
        reason, rest = row
        attempt = read_incomplete(chunk("a"), chunk("", finish=reason), *rest)
        assert attempt.complete == bool(rest), "the upstream has ended it, and reports what it costs"

    ends: list[list[Event]] = [[], [DONE], [usage_event(7, 1)], [usage_event(7, 1), DONE]]
    reasons = ("abort", "error", "insufficient_system_resource")
    check_rows([(reason, rest) for reason in reasons for rest in ends], check)


def test_text_or_a_next_try_behind_a_failed_end_may_be_whole() -> None:
    failed = [chunk("a"), chunk("b"), chunk("", finish="error")]
    end = chunk("", finish="stop")

    assert read(*failed, chunk("c"), end)[0] == "abc"
    assert read(*failed, chunk("c", "two", role=True), chunk("", "two", finish="stop"))[0] == "c"


def test_content_after_the_end_makes_the_completion_incomplete_again() -> None:
    for end in (usage_event(7, 1), chunk("", finish="stop")):
        assert not read_incomplete(chunk("a"), end, chunk("b")).complete
        assert read(chunk("a"), end, chunk("b"), chunk("", finish="stop"))[0] == "ab"


def test_a_choice_that_goes_on_behind_its_end_has_not_ended() -> None:
    """The tokens that may still be made are then counted."""
    ends = [{"index": index, "delta": {"content": "a"}, "finish_reason": "stop"} for index in range(2)]
    goes_on = {"index": 0, "delta": {"content": "b"}}
    events = [event({"id": "one", "choices": [choice]}) for choice in (ends[0], goes_on, ends[1], ends[0])]

    assert not read_incomplete(*events[:-1], choices=2).complete
    assert read(*events, choices=2)[1].complete


def test_choices_without_an_index_end_by_their_position() -> None:
    ends = [{"delta": {"content": text}, "finish_reason": "stop"} for text in "ab"]

    assert read(event({"choices": ends}), choices=2)[1].complete


def test_an_empty_delta_after_the_end_changes_nothing() -> None:
    assert read(chunk("a", finish="stop"), chunk(""), event({"choices": [{"delta": {}}]}))[1].complete


# --- a second try inside one stream ------------------------------------------------------------------------


def test_a_second_try_replaces_the_text_and_the_tokens_of_both_count() -> None:
    first = [chunk("", "one", role=True), chunk("Hello wor", "one")]
    second = [chunk("", "two", role=True), chunk("Hello ", "two"), chunk("world", "two", finish="stop")]

    text, attempt = read(*first, *second, DONE)

    assert text == "Hello world"
    assert attempt.received_tokens == (1 + 9) + (1 + 6 + 5)


def test_a_third_try_replaces_the_second() -> None:
    def check(*, role: bool) -> None:
        streams = [
            chunk(text, chunk_id, role=role or not position)
            for chunk_id, texts in (("1", ("a", "")), ("2", ("a", "b")), ("3", ("ab", "c")))
            for position, text in enumerate(texts)
        ]
        assert read(*streams, DONE)[0] == "abc"

    check_rows([False, True], lambda role: check(role=role))


def test_a_next_try_is_one_only_if_a_choice_with_text_opens_again_under_another_id() -> None:
    shared = [chunk("a"), chunk("b")]
    own = [chunk("a", "1", role=True), chunk("b", "2", role=True)]
    rows: dict[str, tuple[list[Event], str]] = {
        "opens with a role": ([*shared, chunk("", "two", role=True), chunk("c", "two")], "c"),
        "opens with a role and text": ([*shared, chunk("c", "two", role=True)], "c"),
        "is one chunk": ([*shared, chunk("c", "two", role=True, finish="stop")], "c"),
        "one chunk had text": ([chunk("", role=True), chunk("a"), chunk("c", "two", role=True)], "c"),
        "roles everywhere, ids shared": (
            [chunk("a", role=True), chunk("b", role=True), chunk("c", "2", role=True)],
            "c",
        ),
        "ids for each chunk, one role": ([own[0], chunk("b", "2"), chunk("c", "3", role=True)], "c"),
        "another id without a role": ([*shared, chunk("c", "two"), chunk("d", "two")], "abcd"),
        "a role without another id": ([*shared, chunk("c", role=True)], "abc"),
        "a role without an id": ([*shared, chunk("c", None, role=True)], "abc"),
        "no text before": ([chunk("", role=True), chunk("", role=True), chunk("c", "two", role=True)], "c"),
        "roles and ids for each chunk": ([*own, chunk("c", "3", role=True)], "abc"),
        "the same with an empty delta": (
            [*own, chunk("", "3", role=True), chunk("c", "4", role=True)],
            "abc",
        ),
        "the end has another id": ([*shared, chunk("", "two", finish="stop")], "ab"),
        "the end has a role too": ([*shared, chunk("", "two", role=True, finish="stop")], "ab"),
    }

    def check(name: str) -> None:
        events, text = rows[name]
        assert read(*events, DONE)[0] == text

    check_rows(rows, check)


def test_an_upstream_with_an_id_for_each_group_of_chunks_starts_no_new_try() -> None:
    chunks = [chunk(letter, str(number // 2)) for number, letter in enumerate("abcdef")]

    assert read(*chunks, DONE)[0] == "abcdef"


def test_a_choice_of_several_that_opens_again_starts_the_next_try_of_all() -> None:
    def both(content: str, chunk_id: str, *, role: bool = False) -> Event:
        delta = {"content": content} | ({"role": "assistant"} if role else {})
        return event({"id": chunk_id, "choices": [{"index": index, "delta": delta} for index in (0, 1)]})

    text, attempt = read(both("a", "1"), both("b", "1"), both("c", "2", role=True), DONE, choices=2)

    assert (text, attempt.deltas, attempt.earlier_tokens) == ("c", 2, 4)


def test_a_second_try_needs_its_own_end() -> None:
    attempt = read_incomplete(chunk("a"), chunk("b", finish="stop"), chunk("ab", "two", role=True))

    assert not attempt.complete


def test_the_usage_of_the_first_try_is_not_used_for_the_second() -> None:
    both = event({"id": "one", "choices": [{"delta": {"content": "a"}}], "usage": SEVEN})

    _, attempt = read(both, both, chunk("b" * 50, "two", role=True), DONE)

    assert (attempt.usage, attempt.received_tokens) == (None, 52)


def test_tokens_that_an_earlier_try_reported_and_did_not_send_count_without_a_usage_too() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 40}
    first = event({"id": "one", "choices": [{"delta": {"content": "a"}}], "usage": usage})

    streams = [[first, first], [first, first, chunk("a", "two", role=True), chunk("c", "two")]]
    _, once = read(*streams[0], chunk("bb", "three", role=True), DONE)
    _, twice = read(*streams[1], chunk("bb", "three", role=True), DONE)

    assert once.bound_tokens == 40 + 2
    assert twice.bound_tokens == 40 + 2 + 2


def test_each_try_may_be_as_long_as_requested() -> None:
    reader = TextStreamReader(Attempt(max_tokens=2))
    for one in (chunk("a"), chunk("b"), chunk("ab", "two", role=True), chunk("c", "two", finish="length")):
        reader.add(one)

    assert reader.text() == "abc"

    with pytest.raises(UpstreamOverranError):
        reader.add(chunk("d", "two"))


def test_all_tries_together_may_be_twice_as_long_as_requested() -> None:
    def check(limit: str) -> None:
        reader = TextStreamReader(Attempt(max_tokens=100))
        text = "a" if limit == "deltas" else "a" * ((100 * BYTES_PER_TOKEN) // 60)
        full_try = 100 if limit == "deltas" else 60
        for chunk_id, count in (("0", full_try - 10), ("1", full_try), ("2", 10)):
            for _ in range(count):
                reader.add(chunk(text, chunk_id, role=True))

        with pytest.raises(UpstreamOverranError):
            reader.add(chunk(text, "2"))

    check_rows(["deltas", "bytes"], check)


def test_an_upstream_with_an_id_for_each_chunk_starts_no_new_try() -> None:
    chunks = [chunk("", "0", role=True), *(chunk(letter, letter) for letter in "abcd")]

    assert read(*chunks, DONE)[0] == "abcd"


def test_chunks_without_an_id_start_no_new_try() -> None:
    def check(chunk_id: object) -> None:
        chunks = [chunk("a"), chunk("b"), chunk("c", chunk_id), chunk("d", chunk_id)]

        assert read(*chunks, DONE)[0] == "abcd"

    check_rows([None, "", 0], check)


def test_the_id_of_an_event_without_choices_starts_no_new_try() -> None:
    other = event({"id": "two", "choices": [], "usage": {"prompt_tokens": 3}})

    assert read(chunk("a"), chunk("b"), other, chunk("c"), DONE)[0] == "abc"


def test_an_id_may_have_any_type() -> None:
    assert read(chunk("a", ["x"]), chunk("b", ["x"]), chunk("c", {"y": 1}, role=True), DONE)[0] == "c"


# --- failures inside a 200 ---------------------------------------------------------------------------------


def broken_by(broken: Event) -> Attempt:
    attempt = Attempt()
    reader = TextStreamReader(attempt)
    reader.add(chunk("ab"))
    with pytest.raises(UpstreamBrokenError):
        reader.add(broken)
    return attempt


def test_an_error_event_breaks_the_stream_and_counts_nothing() -> None:
    rows: list[Event] = [
        event({"error": "boom"}),
        event({"error": {"message": "boom"}}),
        Event(b'{"error":"boom"}', bare=True),
        event({"object": "error", "message": "boom", "code": 500}),
        Event(b'{"status":500,"detail":"gone"}', bare=True),
        Event(b"{}", bare=True),
    ]

    def check(error: Event) -> None:
        assert broken_by(error).received_tokens == 2, "the tokens of the event before"

    check_rows(rows, check)


def test_an_invalid_event_breaks_the_stream_and_counts_its_bytes() -> None:
    rows: list[Event] = [
        event({"error": {"message": "boom"}, "choices": [{"delta": {"content": "a"}}]}),
        Event(b'{"choices":[]}', bare=True),
        Event(b"[DONE]x"),
        Event(b"{"),
        Event(b"{}{}"),
        Event(b'{"a":NaN'),
        Event(b'{"a":nan}'),
        Event(b'{"a":NaN,"b":"\\ud800"}'),
        Event(b'{"a":NaN,"b":"\xff"}'),
        Event(b'{"a":NaN,"b":' + b"[" * 2_000 + b"]" * 2_000 + b"}"),
        Event(b'{"a":NaN,"b":' + b"9" * 5_000 + b"}"),
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
        Event(b'{"choices":[],"x":[' + b"0," * MAX_MARKS + b"0]}"),
    ]

    def check(invalid: Event) -> None:
        assert broken_by(invalid).received_tokens == 2 + len(invalid.data)

    check_rows(rows, check)


def test_the_most_complex_event_is_read() -> None:
    """Its text does not count, and 65,536 commas and the like are 150 tokens with 20 alternatives each."""
    text = "{,[" * MAX_MARKS
    complex_chunk = b'{"choices":[{"delta":{"content":"%b"}}],"x":[' % text.encode()
    marks = b"0," * (MAX_MARKS - all_marks(b'{"choices":[{"delta":{"content":""}}],"x":['))
    assert read(Event(complex_chunk + marks + b"0]}"), DONE)[0] == text


def test_an_event_without_data_changes_nothing() -> None:
    text, attempt = read(chunk("a"), Event(b""), chunk("b"), DONE)

    assert (text, attempt.received_tokens) == ("ab", 2)


def test_an_empty_error_is_not_an_error() -> None:
    def check(error: object) -> None:
        assert read(event({"error": error, "choices": [{"delta": {"content": "a"}}]}), DONE)[0] == "a"

    check_rows([None, "", False, {}], check)


def test_a_choice_without_a_delta_is_empty() -> None:
    def check(choice: object) -> None:
        text, attempt = read(chunk("a"), event({"choices": [choice]}), DONE)

        assert (text, attempt.received_tokens) == ("a", 1)

    check_rows([{}, {"delta": None}, {"delta": {}}, {"delta": []}, {"delta": 0}], check)


def test_the_failure_texts_are_those_of_the_contract() -> None:
    assert FAILURE_TEXTS == ("Internal Server Error", "exhausted all available targets")


def test_a_completion_with_a_failure_text_is_broken() -> None:
    def check(failure: str) -> None:
        events = [
            chunk("so: "),
            chunk(failure[:7]),
            chunk(failure[7:]),
            chunk(" to no avail", finish="stop"),
            DONE,
        ]

        assert read_incomplete(*events).complete, "the stream was complete, and is charged as such"

    check_rows(["Internal Server Error", "exhausted all available targets"], check)


def test_a_failure_text_in_an_earlier_try_does_not_matter() -> None:
    replaced = [chunk("", role=True), chunk("Internal Server Error")]

    assert read(*replaced, chunk("fine", "two", role=True), DONE)[0] == "fine"


def test_a_failure_text_is_case_sensitive() -> None:
    assert read(chunk("an internal server error"), DONE)[0] == "an internal server error"


# --- any JSON ---------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=json_values
    | st.fixed_dictionaries({"id": json_values, "choices": json_values, "usage": json_values})
)
def test_any_json_is_read_or_broken(value: object) -> None:
    reader = TextStreamReader(Attempt())
    try:
        reader.add(event(value))
        reader.text()
    except UpstreamBrokenError:
        pass


# --- disproved usage ---------------------------------------------------------------------------------------


def test_a_usage_below_half_of_the_received_deltas_is_disproved() -> None:
    rows: list[tuple[int, int, bool]] = [
        (100, 200, False),
        (100, 201, True),
        (0, 1, True),
        (1, 2, False),
        (1_000, 1_000, False),
    ]

    def check(row: tuple[int, int, bool]) -> None:
        reported, deltas, disproved = row
        _, attempt = read(*[chunk("a")] * deltas, usage_event(7, reported))
        assert (attempt.usage, attempt.usage_disproved) == (Usage(7, reported), disproved)
        assert attempt.complete
        assert attempt.received_tokens == deltas

    check_rows(rows, check)


def test_a_usage_far_below_the_text_of_few_deltas_is_disproved() -> None:
    _, attempt = read(*[chunk("word " * 100)] * 60, usage_event(7, 0), DONE)
    assert (attempt.deltas, attempt.text_bytes, attempt.usage_disproved) == (60, 30_000, True)


def test_a_valid_usage_after_a_disproved_one_counts() -> None:
    _, attempt = read(*[chunk("a")] * 100, usage_event(7, 1), usage_event(7, 100))
    assert (attempt.usage, attempt.usage_disproved) == (Usage(7, 100), False)


def test_a_usage_is_disproved_by_content_after_it_as_well() -> None:
    _, attempt = read(usage_event(7, 1), *[chunk("a")] * 200, DONE)
    assert attempt.usage_disproved


def test_the_usage_of_a_second_try_is_compared_with_that_try_only() -> None:
    def check(deltas: int) -> None:
        first, second = [chunk("a" * 900, "one")] * 200, [chunk("a", "two", role=True), chunk("a", "two")]
        _, attempt = read(*first, *second, *[chunk("a", "two")] * (deltas - 2), usage_event(7, 10), DONE)
        assert attempt.usage_disproved == (deltas == 200)
        assert attempt.received_tokens == 200 * 900 + deltas

    check_rows([2, 200], check)
