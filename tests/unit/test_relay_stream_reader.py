"""`RelayStreamReader`: events are forwarded unchanged, and the `Attempt` records usage, text and the end."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import (
    UpstreamBrokenError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamOverranError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.sse import Event, EventReader
from ridges_proxy.upstream.stream_reader import RelayStreamReader, event_of
from tests.support.table import check_rows, each_row

DONE = Event(b"[DONE]")
USAGE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 3}


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
    """A `RelayStreamReader`, its attempt, and the bytes that it forwarded."""

    def __init__(
        self,
        *,
        shows_usage: bool = False,
        shows_chunk_usage: bool = False,
        keeps_usage: bool = False,
        choices: int = 1,
        max_tokens: int | None = None,
    ) -> None:
        self.attempt = Attempt(choices=choices, max_tokens=max_tokens)
        self.forwarded: list[bytes] = []
        self._reader = RelayStreamReader(
            self.attempt,
            self.forwarded.append,
            shows_usage=shows_usage,
            shows_chunk_usage=shows_chunk_usage,
            keeps_usage=keeps_usage,
        )

    def end(self) -> None:
        usage = self._reader.unshown_usage()
        if usage is not None:
            self.forwarded.append(event_of(usage))

    def check_complete(self) -> None:
        self._reader.check_complete()

    def add(self, *events: Event) -> None:
        for each in events:
            self._reader.add(each)

    def assert_breaks_at(self, event: Event, error: type[UpstreamBrokenError] = UpstreamBrokenError) -> None:
        """Assert that the event raises the error and is not forwarded."""
        before = list(self.forwarded)
        with pytest.raises(UpstreamBrokenError) as raised:
            self.add(event)
        assert type(raised.value) is error
        assert self.forwarded == before

    def is_complete(self) -> bool:
        """Tell whether the answer is complete. `check_complete` and `Attempt.complete` must agree."""
        try:
            self._reader.check_complete()
        except UpstreamBrokenError:
            assert not self.attempt.complete
            return False
        assert self.attempt.complete
        return True


def on_the_wire(*events: Event) -> list[bytes]:
    return [b"data: " + each.data + b"\n\n" for each in events]


# --- forwarded events --------------------------------------------------------------------------------------


def test_events_are_forwarded_unchanged_but_done_is_not() -> None:
    odd = Event('{ "id":"one", "choices" : [ {"index":0,"delta":{"content":"é\u2028"}} ], "x":1e2 }'.encode())
    relay = Relay()

    relay.add(chunk("Hi", role=True), odd, FINISH, DONE)

    assert relay.forwarded == on_the_wire(chunk("Hi", role=True), odd, FINISH)
    assert relay.is_complete()


def test_each_event_is_forwarded_at_once() -> None:
    relay = Relay()
    for number in range(1, 4):
        relay.add(chunk("a"))
        assert len(relay.forwarded) == number


def test_an_event_of_several_lines_is_forwarded_as_one_event() -> None:
    relay = Relay()
    lines = Event(b'{"choices":\n[{"delta":{"content":"a"}}]\n}')

    relay.add(lines)

    assert relay.forwarded == [b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]\ndata: }\n\n']
    assert EventReader().feed(relay.forwarded[0]) == [lines]


def test_an_event_with_infinities_is_forwarded_as_strict_json() -> None:
    relay = Relay()
    start = b'{"id":"one","choices":[{"index":0,"delta":{"content":"Infinity"},"logprobs":'
    relay.add(Event(start + b'{"content":[{"logprob":-Infinity},{"logprob":NaN}]}}]}'))
    sent = start + b'{"content":[{"logprob":-9999.0},{"logprob":null}]}}]}'
    assert relay.forwarded == [b"data: " + sent + b"\n\n"]


def test_an_event_without_data_is_not_forwarded() -> None:
    relay = Relay()
    relay.add(Event(b""), chunk("a"))
    assert relay.forwarded == on_the_wire(chunk("a"))


def test_chunks_of_tools_reasoning_and_logprobs_are_forwarded_unchanged() -> None:
    events = [
        event(
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]}
        ),
        event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}),
        event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}]}),
        event({"id": "x", "object": "odd", "service_tier": None}),
    ]
    relay = Relay()

    relay.add(*events)

    assert relay.forwarded == on_the_wire(*events)


# --- usage -------------------------------------------------------------------------------------------------


@each_row("shows_usage", [True, False])
def test_the_usage_event_is_forwarded_only_if_the_request_asked_for_it(*, shows_usage: bool) -> None:
    relay = Relay(shows_usage=shows_usage)

    relay.add(chunk("a"), FINISH, USAGE_EVENT, DONE)

    usage_events = [USAGE_EVENT] if shows_usage else []
    assert relay.forwarded == on_the_wire(chunk("a"), FINISH, *usage_events)
    assert relay.attempt.usage == Usage(7, 3)


@each_row("usage, shows_usage, shows_chunk_usage", product([None, {}, USAGE], *[[True, False]] * 2))
def test_a_usage_beside_choices_is_forwarded_only_if_the_request_asked_for_it_there(
    usage: object, *, shows_usage: bool, shows_chunk_usage: bool
) -> None:
    both: dict[str, Any] = {"id": "one", "choices": [{"index": 0, "delta": {"content": "a"}}]}
    relay = Relay(shows_usage=shows_usage, shows_chunk_usage=shows_chunk_usage)

    relay.add(event({**both, "usage": usage}))

    is_shown = shows_chunk_usage or (shows_usage and not usage)
    assert relay.forwarded == on_the_wire(event({**both, "usage": usage}) if is_shown else event(both))
    assert relay.attempt.usage == (Usage(7, 3) if usage else None)
    assert not relay.is_complete()


def test_a_usage_that_came_only_beside_choices_is_forwarded_at_the_end_to_a_client_that_asked() -> None:
    def check(row: tuple[bool, bool, list[Event], dict[str, object] | None]) -> None:
        shows_usage, shows_chunk_usage, rest, usage = row
        relay = Relay(shows_usage=shows_usage, shows_chunk_usage=shows_chunk_usage, choices=2)
        finish = {"delta": {}, "finish_reason": "stop"}
        for index, tokens in ((0, 3), (1, 4)):
            choices = [{"index": index, **finish}]
            usage_of_choice: dict[str, Any] = {**USAGE, "completion_tokens": tokens}
            relay.add(event({"id": "one", "choices": choices, "usage": usage_of_choice}))
        relay.add(*rest, DONE)
        before = len(relay.forwarded)

        relay.end()

        added = [event({"id": "one", "choices": [], "usage": usage})] if usage else []
        assert relay.forwarded[before:] == on_the_wire(*added)

    total: dict[str, object] = {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}
    rows: list[tuple[bool, bool, list[Event], dict[str, object] | None]] = [
        (True, False, [], total),
        (True, False, [USAGE_EVENT], None),
        (True, True, [], None),
        (False, False, [], None),
    ]
    check_rows(rows, check)


def test_the_usage_of_a_single_choice_is_forwarded_at_the_end_as_it_came() -> None:
    relay = Relay(shows_usage=True)
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    relay.add(event({"id": "one", "choices": [choice], "usage": usage}), DONE)

    relay.end()

    assert relay.forwarded[1:] == on_the_wire(event({"id": "one", "choices": [], "usage": usage}))


def test_a_usage_that_is_kept_is_returned_at_the_end_and_not_forwarded() -> None:
    """Without one the client still gets an event, with the fields that all chunks of the answer share."""
    text = event({"id": "one", "model": "m", "x": 1, "choices": [{"index": 0, "delta": {"content": "a"}}]})
    both = event({"id": "one", "choices": [{"index": 0, "delta": {"content": "b"}}], "usage": USAGE})
    none: dict[str, object] = {"id": "one", "model": "m", "choices": [], "usage": None}
    hidden = {"id": "one", "choices": [], "usage": USAGE}

    def check(row: tuple[list[Event], list[Event], object]) -> None:
        events, forwarded, end = row
        relay = Relay(shows_usage=True, keeps_usage=True)
        relay.add(*events)
        assert relay.forwarded == on_the_wire(*forwarded)
        relay.end()
        assert orjson.loads(relay.forwarded[-1].removeprefix(b"data: ")) == end

    rows: list[tuple[list[Event], list[Event], object]] = [
        ([text, FINISH], [text, FINISH], none),
        ([text, FINISH, USAGE_EVENT, DONE], [text, FINISH], hidden),
        ([text, both, FINISH], [text, chunk("b"), FINISH], hidden),
        ([both, FINISH, USAGE_EVENT], [chunk("b"), FINISH], hidden),
    ]
    check_rows(rows, check)

    relay = Relay(keeps_usage=True)
    relay.add(text, FINISH, USAGE_EVENT)
    relay.end()
    assert relay.forwarded == on_the_wire(text, FINISH), "the client did not ask for it"


@each_row("choices", [{}, {"choices": None}, {"choices": []}])
def test_an_event_with_only_a_usage_is_not_forwarded(choices: dict[str, object]) -> None:
    relay = Relay()

    relay.add(event({"id": "one", **choices, "usage": USAGE}), event({"usage": None}))

    assert relay.forwarded == []
    assert relay.is_complete()


# --- ends and failures -------------------------------------------------------------------------------------


@each_row("end", [DONE, FINISH, USAGE_EVENT])
def test_an_answer_is_complete_after_its_end(end: Event) -> None:
    relay = Relay()
    relay.add(chunk("a"))
    assert not relay.is_complete()
    relay.add(end)
    assert relay.is_complete()


@each_row(
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
)
def test_a_failure_inside_the_stream_is_raised_and_not_forwarded(failure: Event) -> None:
    relay = Relay()
    relay.add(chunk("ab"))
    relay.assert_breaks_at(failure)
    assert not relay.is_complete()


def test_an_error_object_in_place_of_the_first_event_is_an_error_status() -> None:
    def check(row: tuple[Event, type[UpstreamError], str]) -> None:
        first, kind, message = row
        relay = Relay()

        with pytest.raises(UpstreamError) as raised:
            relay.add(Event(b""), first)

        assert (type(raised.value), getattr(raised.value, "detail", "")) == (kind, message)
        assert (relay.attempt.refused, relay.attempt.answering, relay.forwarded) == (True, False, [])

    message = "the prompt exceeds the context length"
    too_long: dict[str, object] = {"message": message, "code": 400}
    rows: list[tuple[Event, type[UpstreamError], str]] = [
        (event({"error": too_long}), UpstreamRejectedError, message),
        (event({"error": too_long | {"code": "400"}}), UpstreamRejectedError, message),
        (event({"object": "error", **too_long}), UpstreamRejectedError, message),
        (event({"error": {"message": "a", "type": "invalid_request_error"}}), UpstreamRejectedError, "a"),
        (event({"error": "boom"}), UpstreamFailedError, "boom"),
        (event({"error": {"message": "boom", "code": 200}}), UpstreamFailedError, "boom"),
        (event({"error": {"message": "boom", "code": "x"}, "choices": []}), UpstreamFailedError, "boom"),
        (Event(b'{"status":500,"detail":"No result"}', bare=True), UpstreamFailedError, "No result"),
    ]
    check_rows(rows, check)


def test_an_error_status_that_a_gateway_reports_in_the_first_event_may_have_been_billed() -> None:
    relay = Relay()
    with pytest.raises(UpstreamTimeoutError):
        relay.add(event({"error": {"message": "timed out", "code": 504}}))
    assert (relay.attempt.sent, relay.attempt.refused, relay.attempt.answering) == (True, False, False)


def test_an_error_object_after_the_first_event_breaks_the_answer() -> None:
    relay = Relay()
    relay.add(chunk(role=True))
    relay.assert_breaks_at(event({"error": {"message": "boom", "code": 400}}))
    assert not relay.attempt.refused


def test_a_reported_completion_above_max_tokens_is_cut_off() -> None:
    def check(row: tuple[int, int, bool]) -> None:
        choices, reported, is_cut = row
        relay = Relay(max_tokens=10, choices=choices)
        running = {"id": "one", "choices": [{"index": 0, "delta": {"content": "a"}}]}
        too_long = event(running | {"usage": USAGE | {"completion_tokens": reported}})
        if is_cut:
            relay.assert_breaks_at(too_long, UpstreamOverranError)
        else:
            relay.add(too_long)

    check_rows([(1, 10, False), (1, 11, True), (2, 20, False), (2, 21, True)], check)


def test_the_usages_beside_several_choices_are_added() -> None:
    relay = Relay(choices=2)
    for index, tokens in ((0, 3), (1, 2), (1, 4)):
        choices = [{"index": index, "delta": {"content": "a"}}]
        relay.add(event({"choices": choices, "usage": USAGE | {"completion_tokens": tokens}}))
    assert relay.attempt.usage == Usage(7, 3 + 4)

    relay.add(USAGE_EVENT)
    assert relay.attempt.usage == Usage(7, 3), "the usage at the end is the total"


def test_content_that_reads_like_a_failure_is_no_failure() -> None:
    relay = Relay()
    relay.add(chunk("Internal Server Error"), FINISH)
    assert relay.is_complete()


# --- a second try inside one stream ------------------------------------------------------------------------


def test_a_second_try_before_any_text_is_forwarded() -> None:
    first, second = chunk(of="one", role=True), chunk(of="two", role=True)
    relay = Relay()

    rest = [chunk("Hi", of="two"), chunk(of="two", finish_reason="stop")]

    relay.add(first, second, *rest)

    assert relay.forwarded == on_the_wire(first, second, *rest)
    assert relay.is_complete()


def test_a_second_try_after_some_text_breaks_the_answer() -> None:
    relay = Relay()
    relay.add(chunk(role=True), chunk("Hel"))
    second = chunk("Hello", of="two", role=True)

    relay.assert_breaks_at(second)  # the client would join the texts of both tries

    assert relay.attempt.received_tokens == 1 + 3 + len(second.data)
    assert not relay.is_complete()


def test_choices_of_one_stream_may_have_ids_of_their_own() -> None:
    def check(rounds: int) -> None:
        relay = Relay(choices=2)
        events = [
            chunk("a", index, of=f"id-{index}", role=not number)
            for number in range(rounds)
            for index in (0, 1)
        ]
        ends = [chunk("", index, of=f"id-{index}", finish_reason="stop") for index in (1, 0)]
        relay.add(*events, *ends)

        assert relay.forwarded == on_the_wire(*events, *ends)
        assert relay.is_complete()

    check_rows([1, 2, 3], check)


def test_a_choice_of_several_that_opens_again_breaks_the_answer() -> None:
    relay = Relay(choices=2)
    relay.add(
        *(chunk("a", index, of=f"id-{index}", role=not number) for number in (0, 1) for index in (0, 1))
    )
    relay.assert_breaks_at(chunk("", 1, of="id-2", role=True))


def test_a_failed_end_is_forwarded_and_the_answer_is_broken() -> None:
    def check(index: int) -> None:
        relay = Relay(choices=2)
        ends = [chunk("", each, finish_reason="abort" if each == index else "stop") for each in (0, 1)]
        relay.add(chunk("a"), *ends, USAGE_EVENT, DONE)

        assert relay.forwarded == on_the_wire(chunk("a"), *ends)
        with pytest.raises(UpstreamBrokenError):
            relay.check_complete()

    check_rows([0, 1], check)


# --- several choices ---------------------------------------------------------------------------------------


def test_an_answer_of_several_choices_is_complete_when_each_has_finished() -> None:
    relay = Relay(choices=3)
    for index in (2, 0):
        relay.add(chunk("a", index), chunk("", index, finish_reason="stop"))
        relay.add(chunk("", index, finish_reason="stop"))
        assert not relay.is_complete()
    relay.add(chunk("", 1, finish_reason="length"))
    assert relay.is_complete()


def test_the_finish_of_an_unrequested_choice_does_not_count() -> None:
    relay = Relay(choices=2)
    indexes: list[Any] = [2, -1, "0", None, [], 0.5]
    relay.add(*(chunk("", index, finish_reason="stop") for index in indexes))
    relay.add(chunk("", 1, finish_reason="stop"))
    assert not relay.is_complete()


@each_row("choices", [1, 2, 5])
def test_an_event_past_the_token_limit_of_all_choices_is_not_forwarded(choices: int) -> None:
    relay = Relay(choices=choices, max_tokens=3)
    relay.add(*(chunk("word", number % choices) for number in range(3 * choices)))

    relay.assert_breaks_at(chunk("more"), UpstreamOverranError)

    assert len(relay.forwarded) == 3 * choices
    assert relay.attempt.received_tokens == 4 * (3 * choices + 1)


def test_chunks_without_a_token_do_not_count_towards_the_limit() -> None:
    relay = Relay(max_tokens=1)
    relay.add(chunk(role=True), chunk("a"), chunk(), FINISH, USAGE_EVENT, DONE)
    assert relay.is_complete()


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
        chunk("retry", of="two", role=True),
        Event(b'{"error":"x"}', bare=True),
        Event(b"{"),
    ]
)


def fields_of(attempt: Attempt) -> dict[str, object]:
    """Return the fields of the attempt except times."""
    return asdict(attempt) | {"started_at": None, "progress": None}


def relayed(pieces: list[bytes]) -> tuple[list[bytes], dict[str, Any], str | None]:
    """Feed a stream in pieces. Return the forwarded events, the fields of the attempt and the error."""
    relay, reader = Relay(choices=2, max_tokens=4), EventReader()
    try:
        for piece in pieces:
            relay.add(*reader.feed(piece))
        relay.add(*reader.close())
    except UpstreamError as error:
        return relay.forwarded, fields_of(relay.attempt), error.code
    return relay.forwarded, fields_of(relay.attempt), None


@given(events=st.lists(PARTS, max_size=12), end=st.sampled_from([b"\n", b"\r\n", b"\r"]), data=st.data())
def test_every_split_of_the_bytes_has_the_same_result(
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
