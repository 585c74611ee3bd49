"""A stream that is passed on: its events as they came, and the same facts as of one that is read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import UpstreamBrokenError, UpstreamOverranError
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.sse import Event, EventReader
from ridges_proxy.upstream.stream_reader import RelayStreamReader

DONE = Event(b"[DONE]")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def event(value: object) -> Event:
    return Event(orjson.dumps(value))


def chunk(
    content: str = "", index: int = 0, *, of: str = "one", role: bool = False, **choice: object
) -> Event:
    delta = {"content": content} | ({"role": "assistant"} if role else {})
    return event({"id": of, "choices": [{"index": index, "delta": delta, **choice}]})


FINISH = chunk("", finish_reason="stop")
USAGE_EVENT = event({"id": "one", "choices": [], "usage": USAGE})


class Relay:
    """A relayed completion, and what it passed on."""

    def __init__(self, *, shows_usage: bool = False, choices: int = 1, max_tokens: int | None = None) -> None:
        self.attempt = Attempt(choices=choices, max_tokens=max_tokens)
        self.passed: list[bytes] = []
        self._completion = RelayStreamReader(self.attempt, self.passed.append, shows_usage=shows_usage)

    def add(self, *events: Event) -> None:
        for each in events:
            self._completion.add(each)

    def breaks_at(self, event: Event, error: type[UpstreamBrokenError] = UpstreamBrokenError) -> None:
        """Check that the event is taken for a failure, and not passed on."""
        before = list(self.passed)
        with pytest.raises(UpstreamBrokenError) as raised:
            self.add(event)
        assert type(raised.value) is error
        assert self.passed == before

    def is_whole(self) -> bool:
        """Whether the answer came to its end, told both ways."""
        try:
            self._completion.check_complete()
        except UpstreamBrokenError:
            assert not self.attempt.complete
            return False
        assert self.attempt.complete
        return True


def on_the_wire(*events: Event) -> list[bytes]:
    return [b"data: " + each.data + b"\n\n" for each in events]


# --- what is passed on -------------------------------------------------------------------------------------


def test_events_are_passed_on_as_they_came_and_done_is_left_to_the_caller() -> None:
    odd = Event('{ "id":"one", "choices" : [ {"index":0,"delta":{"content":"é\u2028"}} ], "x":1e2 }'.encode())
    relay = Relay()

    relay.add(chunk("Hi", role=True), odd, FINISH, DONE)

    assert relay.passed == on_the_wire(chunk("Hi", role=True), odd, FINISH)
    assert relay.is_whole()


def test_each_event_is_passed_on_when_it_is_added() -> None:
    relay = Relay()
    for number in range(1, 4):
        relay.add(chunk("a"))
        assert len(relay.passed) == number


def test_the_lines_of_one_event_stay_lines_of_one_event() -> None:
    relay = Relay()
    lines = Event(b'{"choices":\n[{"delta":{"content":"a"}}]\n}')

    relay.add(lines)

    assert relay.passed == [b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]\ndata: }\n\n']
    assert EventReader().feed(relay.passed[0]) == [lines]


def test_an_event_without_data_is_not_passed_on() -> None:
    relay = Relay()
    relay.add(Event(b""), chunk("a"))
    assert relay.passed == on_the_wire(chunk("a"))


def test_chunks_of_tools_reasoning_and_logprobs_are_passed_on_as_they_came() -> None:
    services = [
        event(
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]}
        ),
        event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}),
        event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}]}),
        event({"id": "x", "object": "odd", "service_tier": None}),
    ]
    relay = Relay()

    relay.add(*services)

    assert relay.passed == on_the_wire(*services)


# --- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shows_usage", [True, False])
def test_the_usage_event_is_shown_only_to_whom_it_was_promised(*, shows_usage: bool) -> None:
    relay = Relay(shows_usage=shows_usage)

    relay.add(chunk("a"), FINISH, USAGE_EVENT, DONE)

    shown = [USAGE_EVENT] if shows_usage else []
    assert relay.passed == on_the_wire(chunk("a"), FINISH, *shown)
    assert relay.attempt.usage == Usage(7, 3)


@pytest.mark.parametrize("usage", [None, {}, USAGE])
@pytest.mark.parametrize("shows_usage", [True, False])
def test_a_usage_beside_choices_is_taken_out_and_the_rest_is_passed_on(
    usage: object, *, shows_usage: bool
) -> None:
    both: dict[str, Any] = {"id": "one", "choices": [{"index": 0, "delta": {"content": "a"}}]}
    relay = Relay(shows_usage=shows_usage)

    relay.add(event(both | {"usage": usage}))

    assert relay.passed == on_the_wire(event(both | {"usage": usage}) if shows_usage else event(both))
    assert relay.attempt.usage == (Usage(7, 3) if usage else None)
    assert not relay.is_whole()


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}])
def test_an_event_of_nothing_but_a_usage_is_hidden_whatever_its_form(choices: dict[str, object]) -> None:
    relay = Relay()

    relay.add(event({"id": "one", **choices, "usage": USAGE}), event({"usage": None}))

    assert relay.passed == []
    assert relay.is_whole()


# --- ends and failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [DONE, FINISH, USAGE_EVENT])
def test_an_answer_is_whole_once_its_end_has_come(end: Event) -> None:
    relay = Relay()
    relay.add(chunk("a"))
    assert not relay.is_whole()
    relay.add(end)
    assert relay.is_whole()


@pytest.mark.parametrize(
    "failure",
    [
        Event(b'{"error":"exhausted all available targets to no avail"}', bare=True),
        Event(b'{"choices":[]}', bare=True),
        event({"error": {"message": "boom"}}),
        event({"error": "boom", "choices": [{"delta": {"content": "a"}}]}),
        event({"choices": "none"}),
        Event(b"{"),
        Event(b'{"x":' + b"[" * 300 + b"]" * 300 + b',"choices":[{"delta":{}}],"usage":null}'),
        Event(b'{"choices":[{"delta":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}"),
    ],
    ids=["bare", "bare_choices", "error", "error_and_choices", "no_choices", "no_json", "deep", "deep_delta"],
)
def test_a_failure_inside_the_stream_is_raised_and_not_passed_on(failure: Event) -> None:
    relay = Relay()
    relay.add(chunk("ab"))
    relay.breaks_at(failure)
    assert not relay.is_whole()


def test_the_texts_of_failures_are_texts_to_whoever_reads_the_answer_himself() -> None:
    relay = Relay()
    relay.add(chunk("Internal Server Error"), FINISH)
    assert relay.is_whole()


# --- a second try inside one stream ------------------------------------------------------------------------


def test_a_second_try_before_any_text_is_passed_on() -> None:
    first, second = chunk(of="one", role=True), chunk(of="two", role=True)
    relay = Relay()

    rest = [chunk("Hi", of="two"), chunk(of="two", finish_reason="stop")]

    relay.add(first, second, *rest)

    assert relay.passed == on_the_wire(first, second, *rest)
    assert relay.is_whole()


def test_a_second_try_after_some_text_breaks_the_answer_as_it_would_be_read_as_one_with_the_first() -> None:
    relay = Relay()
    relay.add(chunk(role=True), chunk("Hel"))

    relay.breaks_at(again := chunk("Hello", of="two", role=True))

    assert relay.attempt.received_tokens == 1 + 3 + len(again.data)
    assert not relay.is_whole()


# --- several choices ---------------------------------------------------------------------------------------


def test_several_choices_are_whole_only_when_each_has_finished() -> None:
    relay = Relay(choices=3)
    for index in (2, 0):
        relay.add(chunk("a", index), chunk("", index, finish_reason="stop"))
        relay.add(chunk("", index, finish_reason="stop"))
        assert not relay.is_whole()
    relay.add(chunk("", 1, finish_reason="length"))
    assert relay.is_whole()


def test_a_finish_of_a_choice_that_nobody_asked_for_finishes_nothing() -> None:
    relay = Relay(choices=2)
    indexes: list[Any] = [2, -1, "0", None, [], 0.5]
    relay.add(*(chunk("", index, finish_reason="stop") for index in indexes))
    relay.add(chunk("", 1, finish_reason="stop"))
    assert not relay.is_whole()


@pytest.mark.parametrize("choices", [1, 2, 5])
def test_an_answer_past_the_limit_of_all_choices_is_cut_off_and_the_event_past_it_not_passed_on(
    choices: int,
) -> None:
    relay = Relay(choices=choices, max_tokens=3)
    relay.add(*(chunk("word", number % choices) for number in range(3 * choices)))

    relay.breaks_at(chunk("more"), UpstreamOverranError)

    assert len(relay.passed) == 3 * choices
    assert relay.attempt.received_tokens == 4 * (3 * choices + 1)


def test_chunks_without_a_token_count_for_nothing_against_the_limit() -> None:
    relay = Relay(max_tokens=1)
    relay.add(chunk(role=True), chunk("a"), chunk(), FINISH, USAGE_EVENT, DONE)
    assert relay.is_whole()


# --- any split ---------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        chunk("Hi é\U0001d15e"),
        chunk("", role=True),
        chunk("a", 1),
        chunk("", 1, finish_reason="stop"),
        event({"id": "one", "choices": [{"delta": {"content": "b"}}], "usage": USAGE}),
        event({"id": "one", "choices": [{"delta": {"content": "b"}}], "usage": None}),
        Event(b'{"choices":\n[]}'),
        Event(b""),
        FINISH,
        USAGE_EVENT,
        DONE,
        chunk("again", of="two", role=True),
        Event(b'{"error":"x"}', bare=True),
        Event(b"{"),
    ]
)


def facts_of(attempt: Attempt) -> dict[str, object]:
    """All but the moment when they were seen."""
    return asdict(attempt) | {"first_event_at": None}


def relayed(pieces: list[bytes]) -> tuple[list[bytes], dict[str, Any], str | None]:
    """The result of a stream in these pieces: events, facts, failure."""
    relay, reader = Relay(choices=2, max_tokens=4), EventReader()
    try:
        for piece in pieces:
            relay.add(*reader.feed(piece))
        relay.add(*reader.close())
    except UpstreamBrokenError as error:
        return relay.passed, facts_of(relay.attempt), error.code
    return relay.passed, facts_of(relay.attempt), None


@given(events=st.lists(PARTS, max_size=12), end=st.sampled_from([b"\n", b"\r\n", b"\r"]), data=st.data())
def test_every_split_of_the_bytes_has_the_same_events_and_the_same_facts(
    events: list[Event], end: bytes, data: st.DataObject
) -> None:
    stream = b": ping\n\n".replace(b"\n", end)
    for each in events:
        lines = each.data.split(b"\n") if each.bare else [b"data: " + line for line in each.data.split(b"\n")]
        stream += end.join([*lines, b"", b""])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert relayed(pieces) == relayed([stream])
    assert relayed([bytes([byte]) for byte in stream]) == relayed([stream])
