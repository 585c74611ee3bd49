"""Tool calls in the answers of the fake Chutes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.process.fake_chutes_client import ask, look, post
from tests.process.fake_chutes_control import directive
from tests.process.row_fixtures import reset
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("search", "edit")
]
THREE = directive(tool_calls=3, events=2)
ARGUMENTS = [{"call": number, "text": "word1 word2 "} for number in range(3)]
TOKENS_PER_CALL = 4


def request_with_tools(**fields: object) -> dict[str, Any]:
    return ask(tools=TOOLS, **{"content": THREE, **fields})


def choices(chutes: Upstream, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["choices"][0] for each in look(chutes, body).events() if each["choices"]]


def test_a_stream_sends_the_tool_calls_in_pieces_one_after_another(chutes: Upstream) -> None:
    choices_of_stream = choices(chutes, request_with_tools())
    assert choices_of_stream[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices_of_stream[-1] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    pieces = [each["delta"]["tool_calls"] for each in choices_of_stream[1:-1]]
    assert {len(piece) for piece in pieces} == {1}
    firsts = [piece[0] for piece in pieces if "id" in piece[0]]
    assert [each["function"] for each in firsts] == [
        {"name": name, "arguments": ""} for name in ("search", "edit", "search")
    ]
    assert {each["type"] for each in firsts} == {"function"}
    assert len({each["id"] for each in firsts}) == 3
    assert [piece[0]["index"] for piece in pieces] == [
        number for number in range(3) for _ in range(1 + TOKENS_PER_CALL)
    ]
    for number, arguments in enumerate(ARGUMENTS):
        pieces_of_call = [each[0] for each in pieces if each[0]["index"] == number]
        assert json.loads("".join(each["function"]["arguments"] for each in pieces_of_call)) == arguments
        assert all(each.keys() == {"index", "function"} for each in pieces_of_call[1:])


def test_each_piece_of_the_arguments_counts_as_a_token_and_the_first_event_does_not(chutes: Upstream) -> None:
    usage = look(chutes, request_with_tools()).usage()
    assert usage["completion_tokens"] == 3 * TOKENS_PER_CALL
    assert chutes.calls()[0]["completion_tokens"] == 3 * TOKENS_PER_CALL


def test_a_json_answer_has_the_tool_calls_and_no_content(chutes: Upstream) -> None:
    answer = post(chutes, request_with_tools(stream=False)).json()
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    calls = choice["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == ARGUMENTS
    assert [call["function"]["name"] for call in calls] == ["search", "edit", "search"]
    assert all(call.keys() == {"id", "type", "function"} for call in calls)
    assert answer["usage"]["completion_tokens"] == 3 * TOKENS_PER_CALL


def test_every_choice_has_different_tool_calls(chutes: Upstream) -> None:
    answer = post(chutes, request_with_tools(stream=False, n=2)).json()
    ids = {call["id"] for each in answer["choices"] for call in each["message"]["tool_calls"]}
    assert len(ids) == 6


def test_a_stream_gives_the_choice_of_each_tool_call(chutes: Upstream) -> None:
    choices_of_stream = choices(chutes, request_with_tools(n=2, content=directive(tool_calls=1, events=1)))
    assert [(each["index"], "id" in each["delta"]["tool_calls"][0]) for each in choices_of_stream[2:-2]] == [
        (0, True),
        (0, False),
        (1, True),
        (1, False),
        *[(0, False), (1, False)] * 2,
    ]


def test_max_tokens_can_end_a_tool_call_in_the_middle(chutes: Upstream) -> None:
    choices_of_stream = choices(chutes, request_with_tools(max_tokens=TOKENS_PER_CALL + 2))
    assert choices_of_stream[-1]["finish_reason"] == "length"
    assert len(choices_of_stream) == 1 + (1 + TOKENS_PER_CALL) + (1 + 2) + 1


def test_arguments_have_at_least_three_pieces(chutes: Upstream) -> None:
    answer = post(chutes, request_with_tools(stream=False, content=directive(tool_calls=1, events=0))).json()
    assert answer["usage"]["completion_tokens"] == 3


@each_row("tools", [None, []], before={"chutes": reset})
def test_tool_calls_without_tools_are_400(chutes: Upstream, tools: object) -> None:
    answer = post(chutes, ask(content=THREE, tools=tools))
    assert (answer.status_code, "no tools" in answer.text) == (400, True)


@each_row(
    "tools", ["search", ["search"], [{"function": {}}], [{"function": "search"}]], before={"chutes": reset}
)
def test_invalid_tools_are_400(chutes: Upstream, tools: object) -> None:
    assert post(chutes, ask(tools=tools)).status_code == 400


def test_tools_are_not_called_without_the_directive(chutes: Upstream) -> None:
    assert len(look(chutes, ask(tools=TOOLS)).words()) == 5


@each_row("stream", [False, True], before={"chutes": reset})
def test_a_directive_may_give_the_calls_with_their_arguments(chutes: Upstream, *, stream: bool) -> None:
    given = [
        {"name": "edit", "arguments": {"path": "a.txt", "lines": [1, 2]}},
        {"name": "none", "arguments": {}},
    ]
    body = request_with_tools(content=directive(tool_calls=given), stream=stream)
    if stream:
        deltas = [each["delta"].get("tool_calls", []) for each in choices(chutes, body)]
        functions = [call["function"] for delta in deltas for call in delta]
        assert functions[::2] == [{"name": call["name"], "arguments": ""} for call in given]
        arguments = [function["arguments"] for function in functions[1::2]]
    else:
        (choice,) = post(chutes, body).json()["choices"]
        calls = choice["message"]["tool_calls"]
        assert [call["function"]["name"] for call in calls] == [call["name"] for call in given]
        arguments = [call["function"]["arguments"] for call in calls]
    assert [json.loads(text) for text in arguments] == [call["arguments"] for call in given]
    assert chutes.calls()[0]["completion_tokens"] == len(given)


def test_the_directive_of_a_later_turn_counts_after_as_many_answers(chutes: Upstream) -> None:
    asked = directive(tool_calls=1, then={"answer": "second", "then": {"answer": "third"}})
    messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
    texts = []
    for _ in range(4):
        answer = post(chutes, {**request_with_tools(), "messages": messages, "stream": False}).json()
        message = answer["choices"][0]["message"]
        texts.append(message["content"])
        # The second part of an answer, as a converter may split it, is no answer of its own.
        messages += [message, {"role": "assistant", "content": "more"}, {"role": "user", "content": "go on"}]
    assert texts == [None, "second", "third", "third"]
