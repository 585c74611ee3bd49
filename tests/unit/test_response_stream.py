"""The chunks of a chat become the events of a response, in order and with their numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.web.responses_api.answers import response_events, response_json
from ridges_proxy.web.responses_api.response_object import ResponseForm
from ridges_proxy.web.responses_api.stream import ResponseStream
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TEAM = {"type": "namespace", "name": "team", "tools": [{"type": "function", "name": "f"}]}


def form_of(**request: object) -> ResponseForm:
    return ResponseForm.of(request, "m")


def delta(finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(index: int, arguments: str = "", **fields: object) -> dict[str, Any]:
    """A piece of a tool call. `name` is the function's name, `id` the call's."""
    function = {"arguments": arguments, **({"name": fields.pop("name")} if "name" in fields else {})}
    return {"index": index, "function": function, **fields}


def events_in(data: bytes) -> list[dict[str, Any]]:
    """The events. Each is named by its type."""
    events = []
    for block in data.decode().split("\n\n")[:-1]:
        name, _, line = block.partition("\n")
        events.append(json.loads(line.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def events_of(chunks: Iterable[dict[str, Any]], **request: object) -> list[dict[str, Any]]:
    """The events of a complete answer."""
    stream = ResponseStream(form_of(**request))
    return events_in(b"".join([*map(stream.add, chunks), stream.end()]))


def shown(event: dict[str, Any]) -> str:
    """An event in short: its type, its place, and what it says."""
    places = ("output_index", "content_index", "summary_index")
    place = "".join(f" {event[name]}" for name in places if name in event)
    said = event.get("delta", event.get("text", event.get("refusal", event.get("arguments"))))
    return str(event["type"]).removeprefix("response.") + place + ("" if said is None else f" {said!r}")


BEGINNING = ["created", "in_progress"]
MESSAGE = ["output_item.added 0", "content_part.added 0 0"]

STREAMS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[str]]] = {
    "an empty answer": ([delta(role="assistant", content=""), delta("stop")], {}, ["completed"]),
    "a text": (
        [delta(role="assistant", content=""), delta(content="Hi"), delta("stop", content=" you")],
        {},
        [
            *MESSAGE,
            "output_text.delta 0 0 'Hi'",
            "output_text.delta 0 0 ' you'",
            "output_text.done 0 0 'Hi you'",
            "content_part.done 0 0",
            "output_item.done 0",
            "completed",
        ],
    ),
    "a text that is cut": (
        [delta("length", content="Hi")],
        {},
        [
            *MESSAGE,
            "output_text.delta 0 0 'Hi'",
            "output_text.done 0 0 'Hi'",
            "content_part.done 0 0",
            "output_item.done 0",
            "incomplete",
        ],
    ),
    "reasoning, then a text": (
        [delta(reasoning="H", reasoning_content="H"), delta(reasoning="m"), delta(content="Hi")],
        {},
        [
            *MESSAGE,
            "reasoning_text.delta 0 0 'H'",
            "reasoning_text.delta 0 0 'm'",
            "reasoning_text.done 0 0 'Hm'",
            "content_part.done 0 0",
            "output_item.done 0",
            "output_item.added 1",
            "content_part.added 1 0",
            "output_text.delta 1 0 'Hi'",
            "output_text.done 1 0 'Hi'",
            "content_part.done 1 0",
            "output_item.done 1",
            "completed",
        ],
    ),
    "reasoning for a client that asks for a summary": (
        [delta("stop", reasoning_content="Hm")],
        {"reasoning": {"summary": "auto"}},
        [
            "output_item.added 0",
            "reasoning_summary_part.added 0 0",
            "reasoning_summary_text.delta 0 0 'Hm'",
            "reasoning_summary_text.done 0 0 'Hm'",
            "reasoning_summary_part.done 0 0",
            "output_item.done 0",
            "completed",
        ],
    ),
    "a refusal behind a text": (
        [delta(content="Hi"), delta("stop", refusal="No")],
        {},
        [
            *MESSAGE,
            "output_text.delta 0 0 'Hi'",
            "output_text.done 0 0 'Hi'",
            "content_part.done 0 0",
            "content_part.added 0 1",
            "refusal.delta 0 1 'No'",
            "refusal.done 0 1 'No'",
            "content_part.done 0 1",
            "output_item.done 0",
            "completed",
        ],
    ),
    "parallel calls whose arguments arrive in turns": (
        [
            delta(content="Hi"),
            delta(tool_calls=[call(0, id="a", name="f"), call(1, id="b", name="g")]),
            delta(tool_calls=[call(1, "{"), call(0, "{}")]),
            delta("tool_calls", tool_calls=[call(1, "}")]),
        ],
        {},
        [
            *MESSAGE,
            "output_text.delta 0 0 'Hi'",
            "output_text.done 0 0 'Hi'",
            "content_part.done 0 0",
            "output_item.done 0",
            "output_item.added 1",
            "output_item.added 2",
            "function_call_arguments.delta 2 '{'",
            "function_call_arguments.delta 1 '{}'",
            "function_call_arguments.delta 2 '}'",
            "function_call_arguments.done 1 '{}'",
            "output_item.done 1",
            "function_call_arguments.done 2 '{}'",
            "output_item.done 2",
            "completed",
        ],
    ),
    "a call without arguments": (
        [delta("tool_calls", tool_calls=[call(0, id="a", name="f")])],
        {},
        ["output_item.added 0", "function_call_arguments.done 0 ''", "output_item.done 0", "completed"],
    ),
}


def test_each_chunk_becomes_its_events() -> None:
    def check(name: str) -> None:
        chunks, request, expected = STREAMS[name]
        events = events_of(chunks, **request)
        assert [shown(event) for event in events] == BEGINNING + expected
        assert [event["sequence_number"] for event in events] == list(range(len(events)))

    check_rows(STREAMS, check)


def test_the_last_event_has_the_complete_response() -> None:
    chunks = [
        delta(reasoning_content="Hm"),
        delta(content="Hi"),
        delta("tool_calls", tool_calls=[call(0, "{}", id="a", name="team__f")]),
        {"choices": [], "usage": USAGE},
    ]
    form = form_of(tools=[TEAM], temperature=0.5, metadata={"a": "b"})
    stream = ResponseStream(form)
    *_, last = events_in(b"".join([*map(stream.add, chunks), stream.end()]))
    text = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    assert last["response"]["output"] == [
        {
            "id": f"rs_{form.id}0",
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm"}],
        },
        {
            "id": f"msg_{form.id}1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        },
        {
            "id": f"fc_{form.id}2",
            "type": "function_call",
            "status": "completed",
            "call_id": "a",
            "name": "f",
            "namespace": "team",
            "arguments": "{}",
        },
    ]
    assert last["response"]["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 15,
    }
    shown = {
        name: last["response"][name] for name in ("id", "model", "temperature", "metadata", "tools", "store")
    }
    assert shown == {
        "id": f"resp_{form.id}",
        "model": "m",
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "tools": [TEAM],
        "store": False,
    }


CALLS: dict[str, tuple[list[dict[str, Any]], list[tuple[str | None, str]]]] = {
    "a name in pieces": (
        [call(0, id="a", name="read_"), call(0, name="file"), call(0, "{}")],
        [("a", "read_file")],
    ),
    "a name that is repeated": ([call(0, id="a", name="f"), call(0, "{}", id="a", name="f")], [("a", "f")]),
    "a name behind the id": ([call(0, id="a"), call(0, name="f")], [("a", "f")]),
    "no ids": ([call(0, name="f"), call(1, name="g")], [(None, "f"), (None, "g")]),
    "one id for two calls": (
        [call(0, id="a", name="f"), call(1, id="a", name="g")],
        [("a", "f"), (None, "g")],
    ),
    "no index": ([{"id": "a", "function": {"name": "f", "arguments": "{}"}}], [("a", "f")]),
    "no indexes": (
        [
            {"id": "a", "function": {"name": "f"}},
            {"function": {"arguments": "{}"}},
            {"id": "b", "function": {"name": "g", "arguments": "{}"}},
            {"function": {"name": "h", "arguments": "{}"}},
        ],
        [("a", "f"), ("b", "g"), (None, "h")],
    ),
    "arguments as an object": (
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {}}}],
        [("a", "f")],
    ),
    "no function": ([{"index": 0, "id": "a", "function": None}], [("a", "")]),
}


def test_calls_of_every_form_have_a_name_and_an_id_of_their_own() -> None:
    def check(name: str) -> None:
        pieces, expected = CALLS[name]
        *_, last = events_of(delta(tool_calls=[piece]) for piece in pieces)
        output = last["response"]["output"]
        assert [item["name"] for item in output] == [name for _, name in expected]
        for item, (call_id, _) in zip(output, expected, strict=True):
            assert item["call_id"] == call_id if call_id else item["call_id"].startswith("call_")
            assert item["arguments"] in {"", "{}"}

    check_rows(CALLS, check)


def test_values_of_wrong_types_have_no_events() -> None:
    odd: list[dict[str, Any]] = [
        {"choices": "x", "usage": "x"},
        {"choices": [{"delta": {"content": 1, "reasoning": [], "refusal": {}, "tool_calls": "x"}}]},
        {"choices": [{"delta": {"tool_calls": ["x", None]}, "logprobs": 1}]},
        {"choices": [{"delta": None}], "usage": {"prompt_tokens": -1}},
        {"choices": [{"delta": {}, "message": "x"}]},
        {"choices": [{"delta": {}, "message": {"content": "not counted in a stream"}}]},
    ]
    assert [shown(event) for event in events_of(odd)] == [*BEGINNING, "completed"]


def test_a_failure_ends_what_is_open_and_has_the_error_in_both_forms() -> None:
    stream = ResponseStream(form_of())
    error = {"message": "It broke", "type": "server_error", "param": None, "code": "upstream_broken"}
    events = events_in(stream.add(delta(content="Hi")) + stream.fail(error))
    *_, done, error_event, failed = events
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (done["type"], done["item"]["status"]) == ("response.output_item.done", "incomplete")
    assert error_event["error"] == error
    assert {name: error_event[name] for name in ("message", "param", "code")} == {
        "message": "It broke",
        "param": None,
        "code": "upstream_broken",
    }
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "upstream_broken", "message": "It broke"}


def test_a_failure_before_the_first_chunk_begins_the_response_first() -> None:
    error = {"message": "Busy", "type": "x", "param": None, "code": "run_busy"}
    events = events_in(ResponseStream(form_of()).fail(error))
    assert [shown(event) for event in events] == [*BEGINNING, "error", "failed"]


def test_log_probabilities_are_in_the_deltas_of_a_stream_and_in_a_whole_response() -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": logprobs}
    events = events_of([{"choices": [{**choice, "delta": {"content": "Hi"}}]}])
    found = {event["type"]: event["logprobs"] for event in events if "logprobs" in event}
    assert found == {"response.output_text.delta": logprobs["content"], "response.output_text.done": []}
    completion = {"choices": [{**choice, "message": {"content": "Hi"}}]}
    whole = json.loads(response_json(form_of(), json.dumps(completion).encode()))
    assert whole["output"][0]["content"][0]["logprobs"] == logprobs["content"]


# --- any answer --------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=3)
PIECES = st.builds(
    lambda index, name, arguments: call(index, arguments, **({"name": name} if name else {})),
    st.integers(0, 2),
    st.sampled_from(["", "f", "g"]),
    TEXTS,
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_content": TEXTS,
        "content": TEXTS,
        "refusal": TEXTS,
        "tool_calls": st.lists(PIECES, max_size=2),
    },
)
CHUNKS = st.lists(DELTAS.map(lambda fields: delta(None, **fields)), max_size=12)
SUMMARIES = st.sampled_from([None, "auto"])


@given(CHUNKS, SUMMARIES)
def test_the_deltas_of_any_answer_are_the_text_that_is_done(
    chunks: list[dict[str, Any]], summary: str | None
) -> None:
    events = events_of(chunks, reasoning={"summary": summary})
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    deltas: dict[tuple[Any, ...], str] = defaultdict(str)
    done: dict[tuple[Any, ...], str] = {}
    items: dict[int, Any] = {}
    opened: list[int] = []
    for event in events[2:-1]:
        kind, _, stage = event["type"].rpartition(".")
        place = (kind, event["output_index"], event.get("content_index"), event.get("summary_index"))
        assert event["type"] == "response.output_item.added" or event["output_index"] in opened
        if event["type"] == "response.output_item.added":
            opened.append(event["output_index"])
        elif event["type"] == "response.output_item.done":
            items[event["output_index"]] = event["item"]
        elif stage == "delta":
            assert place not in done
            deltas[place] += event["delta"]
        elif "part" not in event:
            done[place] = str(event.get("text", event.get("refusal", event.get("arguments"))))
    assert opened == list(range(len(opened)))
    assert {place: text for place, text in done.items() if text} == deltas
    assert events[-1]["response"]["output"] == [items[index] for index in opened]


@given(DELTAS, SUMMARIES)
def test_a_whole_response_is_that_of_a_stream_with_one_chunk(
    message: dict[str, Any], summary: str | None
) -> None:
    form = form_of(reasoning={"summary": summary})
    pieces = [{**piece, "index": index} for index, piece in enumerate(message.get("tool_calls", []))]
    stream = ResponseStream(form)
    stream.add(delta("stop", **{**message, "tool_calls": pieces}))
    stream.end()
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = response_json(form, json.dumps({"choices": [choice]}).encode())
    assert json.loads(whole) == json.loads(orjson.dumps(stream.response))


# --- pieces of a stream -------------------------------------------------------------------------------------


def test_heartbeats_are_passed_on_and_several_chunks_in_a_piece_are_read() -> None:
    def pieces() -> Generator[bytes]:
        yield HEARTBEAT
        yield b"".join(b"data: " + json.dumps(delta(content=text)).encode() + b"\n\n" for text in "ab")
        yield HEARTBEAT

    beat, events, again, last = response_events(pieces(), ResponseStream(form_of()))
    assert (beat, again) == (HEARTBEAT, HEARTBEAT)
    assert [event["delta"] for event in events_in(events) if "delta" in event] == ["a", "b"]
    assert events_in(last)[-1]["type"] == "response.completed"


def test_closing_the_events_closes_the_stream_of_the_chat() -> None:
    closed = []

    def pieces() -> Generator[bytes]:
        try:
            yield HEARTBEAT
        finally:
            closed.append(True)

    events = response_events(pieces(), ResponseStream(form_of()))
    assert next(events) == HEARTBEAT
    events.close()
    assert closed == [True]
