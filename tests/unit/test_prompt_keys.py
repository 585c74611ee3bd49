"""The keys of a prompt's messages, and the work that they take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.learned_counts import LearnedCounts
from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.billing.prompt_keys import PromptKeys
from ridges_proxy.runtime.shared_table import SharedTable
from tests.support.table import check_rows

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


def test_another_result_of_the_same_call_is_another_message() -> None:
    assert last_key(caller("a"), result("a")) != last_key(caller("a"), {**result("a"), "content": "failed"})


def roles_keys(roles: str) -> PromptKeys:
    """The keys of a prompt; the roles by their first letters. Messages of the same role are the same."""
    names = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "t": "tool"}
    calls = {"tool_calls": caller("1")["tool_calls"]}
    messages = [
        {
            "role": names[each],
            "content": "x",
            **(calls if each == "a" else result("1") if each == "t" else {}),
        }
        for each in roles
    ]
    return PromptKeys(Prompt.of(messages, {}), b"salt", 0)


def test_a_sequence_is_the_same_only_where_templates_write_it_in_the_same_way() -> None:
    """Rows: what is before it, the sequence and what is behind it, in two lists; whether its key is equal."""
    rows = [
        # what is before it
        (("u", "at", ""), ("su", "at", ""), True),
        (("u", "at", ""), ("s", "at", ""), True),
        (("", "u", ""), ("a", "u", ""), True),
        (("a", "u", ""), ("u", "u", ""), False),
        (("", "u", "u"), ("u", "u", "u"), False),
        (("", "u", "a"), ("", "u", "au"), True),
        (("at", "at", ""), ("u", "at", ""), True),
        # what is behind it
        (("", "u", ""), ("", "u", "a"), True),
        (("", "u", "u"), ("", "u", "s"), False),
        (("", "u", "u"), ("", "u", "a"), False),
        (("", "u", "s"), ("", "u", ""), False),
        (("", "u", "s"), ("", "u", "d"), True),
        (("", "su", "u"), ("", "su", "s"), False),
        # whether its last assistant messages are before the last user message
        (("s", "at", "u"), ("s", "at", "s"), False),
        (("s", "at", "au"), ("s", "at", "a"), False),
        (("u", "at", "a"), ("s", "at", "a"), True),
        (("", "uat", "su"), ("", "uat", "s"), False),
        (("", "au", "su"), ("", "au", "s"), True),
        (("", "aus", "au"), ("", "aus", "a"), True),
        (("", "uas", "au"), ("", "uas", "a"), False),
        (("", "uasu", "au"), ("", "uasu", "a"), True),
    ]

    def check(row: tuple[tuple[str, str, str], tuple[str, str, str], bool]) -> None:
        *places, is_same = row
        one, other = (
            roles_keys(before + each + behind).sequence(b"", len(before), len(before + each))
            for before, each, behind in places
        )
        assert (one == other) is is_same

    check_rows(rows, check)


def test_a_sequence_behind_a_limit_has_another_key() -> None:
    keys = roles_keys("sua")
    assert len({keys.sequence(scope, 1, 2) for scope in (b"", b"one limit", b"another limit")}) == 3


def test_the_first_and_the_last_user_message_are_found() -> None:
    def check(row: tuple[str, tuple[int, int]]) -> None:
        roles, expected = row
        keys = roles_keys(roles)
        assert (keys.first_user, keys.last_user) == expected

    check_rows(
        [("u", (0, 0)), ("sa", (-1, -1)), ("suaus", (1, 3)), ("suua", (1, 2))],
        check,
    )


def long_keys(head: int) -> PromptKeys:
    return PromptKeys(Prompt.of([ASK] * 1_000, {}), b"salt", head)


def test_the_key_of_a_beginning_does_not_depend_on_what_was_asked_before() -> None:
    def check(lengths: list[int]) -> None:
        keys = long_keys(0)
        assert [keys.exact(each) for each in lengths] == [long_keys(0).exact(each) for each in lengths]
        assert len({keys.exact(each) for each in lengths}) == len(lengths)

    check_rows([[1_000, 500, 999], [500, 1_000, 999], [2, 1_000], [996, 1, 1_000]], check)


def test_the_keys_of_the_ends_and_of_the_head_take_few_steps() -> None:
    """A step of an agent asks for these only. All other beginnings need a digest for each message."""

    def check(row: tuple[int, list[int]]) -> None:
        head, lengths = row
        keys = long_keys(head)
        assert lines(lambda: [keys.exact(each) for each in lengths]) < 1_000

    check_rows([(0, [1_000, 999, 998, 997, 996]), (3, [1_000, 3, 998]), (0, [998, 1_000])], check)


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
