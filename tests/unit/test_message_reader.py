"""A streamed completion as a message: its text, and the tool calls that arrive in pieces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.message_reader import AnswerMessage, MessageStreamReader, ToolCall
from ridges_proxy.upstream.sse import Event
from tests.support.table import check_rows

END: dict[str, Any] = {"finish_reason": "tool_calls"}


def event(delta: object, chunk_id: str = "1", **choice: object) -> Event:
    return Event(orjson.dumps({"id": chunk_id, "choices": [{"index": 0, "delta": delta, **choice}]}))


def pieces(*each: object) -> dict[str, object]:
    return {"tool_calls": list(each)}


def piece(index: int | None, name: str | None = None, arguments: str | None = None) -> dict[str, object]:
    place = {} if index is None else {"index": index}
    return {**place, "function": {"name": name, "arguments": arguments}}


def with_id(call_id: str, name: str | None, arguments: str) -> dict[str, object]:
    return {"id": call_id, **piece(None, name, arguments)}


def read(*events: Event) -> AnswerMessage:
    reader = MessageStreamReader(Attempt())
    for each in events:
        reader.add(each)
    return reader.message()


def test_the_pieces_of_tool_calls_are_joined_by_their_index_or_id() -> None:
    def check(row: tuple[str, list[object], list[ToolCall]]) -> None:
        _, deltas, expected = row
        assert read(*map(event, deltas), event({}, **END)) == AnswerMessage("", expected)

    two = [ToolCall("search", '{"a": 1}'), ToolCall("edit", "{}")]
    rows: list[tuple[str, list[object], list[ToolCall]]] = [
        ("no calls", [{"content": ""}, {"tool_calls": None}, {"tool_calls": []}], []),
        ("one after another", [pieces(piece(0, "search", "")), pieces(piece(0, None, '{"a"')),
                               pieces(piece(0, None, ": 1}")), pieces(piece(1, "edit", "{}"))], two),
        ("mixed", [pieces(piece(0, "search", '{"a"'), piece(1, "edit", "{")),
                   pieces(piece(1, None, "}"), piece(0, None, ": 1}"))], two),
        ("the name in each piece", [pieces(piece(0, "search", '{"a": ')), pieces(piece(0, "search", "1}")),
                                    pieces(piece(1, "edit", "{}"))], two),
        ("without an index", [pieces(piece(None, "search", '{"a": ')), pieces(piece(None, "", "1}")),
                              pieces(piece(None, "edit", "{}"))], two),
        ("ids in each piece", [pieces(with_id("a", "search", '{"a"')), pieces(with_id("b", "edit", "{")),
                               pieces(with_id("a", None, ": 1}"), with_id("b", None, "}"))], two),
        ("ids at first", [pieces(with_id("a", "search", '{"a"')), pieces(piece(None, None, ": 1}")),
                          pieces(with_id("b", "edit", "{")), pieces(piece(None, None, "}"))], two),
        ("ids of calls of one name", [pieces(with_id("a", "edit", "{")), pieces(with_id("b", "edit", "{}")),
                                      pieces(with_id("a", "edit", "}"))], [two[1], two[1]]),
        ("an index and other ids", [pieces({**piece(0, "search", '{"a"'), "id": "a"}),
                                    pieces({**piece(0, None, ": 1}"), "id": "b"}),
                                    pieces({**piece(1, "edit", "{}"), "id": "a"})], two),
        ("an index that is none", [pieces({**piece(None, "search", '{"a"'), "index": True}),
                                   pieces({**piece(None, None, ": 1"), "index": -1}),
                                   pieces({**piece(None, None, "}"), "index": "1"}),
                                   pieces(piece(None, "edit", "{}"))], two),
        ("no form of a call", [pieces(None, 1, {}, {"index": 0}, {"index": 0, "function": None}),
                               {"tool_calls": {"index": 0}}], []),
        ("arguments as an object", [pieces({"index": 0, "function": {"name": "f", "arguments": {"a": 1}}})],
         [ToolCall("f", '{"a":1}')]),
    ]  # fmt: skip
    check_rows(rows, check)


def test_text_and_tool_calls_are_one_message() -> None:
    both = {"content": " it", **pieces(piece(0, "search", "{}"))}
    message = read(event({"content": "Found"}), event(both), event({}, **END))
    assert message == AnswerMessage("Found it", [ToolCall("search", "{}")])


def test_a_second_try_inside_one_stream_replaces_the_calls_of_the_first() -> None:
    first = [event(pieces(piece(0, "search", "{"))), event(pieces(piece(0, None, "}")))]
    second = event({"role": "assistant", **pieces(piece(0, "edit", "{}"))}, "2")
    assert read(*first, second, event({}, "2", **END)) == AnswerMessage("", [ToolCall("edit", "{}")])


def test_a_message_that_is_cut_or_failed_is_none() -> None:
    def check(last: list[Event]) -> None:
        with pytest.raises(UpstreamBrokenError):
            read(event(pieces(piece(0, "search", "{}"))), *last)

    check_rows([[], [event({}, finish_reason="error")]], check)


def test_a_text_about_a_failure_is_a_text() -> None:
    assert read(event({"content": "500 Internal Server Error"}), event({}, **END)).content.startswith("500")
