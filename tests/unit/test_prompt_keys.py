"""The keys of a prompt's messages, and the work that they take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.learned_counts import LearnedCounts
from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.billing.prompt_keys import PromptKeys
from ridges_proxy.runtime.shared_table import SharedTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import TraceFunction

    Message = dict[str, Any]

ASK: Message = {"role": "user", "content": "x"}


def caller(*ids: str) -> Message:
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": "the id c is only named here", "tool_calls": calls}


def result(call_id: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


def last_key(*messages: Message) -> bytes:
    prompt = Prompt.of(messages, {})
    return PromptKeys(prompt, b"salt", 0).message(len(messages) - 1)


def test_a_result_is_recognized_behind_the_message_that_called_it() -> None:
    key = last_key(ASK, caller("a", "b"), result("b"))
    assert key == last_key(caller("a", "b"), result("b"))
    assert key == last_key(ASK, ASK, caller("a", "b"), result("a"), result("b"))
    assert key != last_key(ASK, caller("b"), result("b")), "another message has called it"


def test_a_result_without_its_call_is_recognized_behind_the_same_messages_only() -> None:
    for messages in (
        [caller("a", "b"), result("c")],
        [result("c")],
        [{"role": "user", "content": "c"}, result("c")],
    ):
        key = last_key(ASK, *messages)
        assert key == last_key(ASK, *messages)
        assert key != last_key(ASK, ASK, *messages)


def lines(step: Callable[[], object]) -> int:
    """The lines that a step executes, with each pass through a loop."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(None)
    return count


def test_the_work_grows_in_proportion_to_the_messages() -> None:
    def work(count: int) -> int:
        prompt = Prompt.of([ASK, caller("a"), *[result("a")] * count, ASK], {"tools": []})
        learned = LearnedCounts(SharedTable(None, 1 << 16), b"secret")
        return lines(learned.of(prompt, b"model", b'{"tools":[]}', "run").bound_tokens)

    assert work(1_000) < 2.2 * work(500)
