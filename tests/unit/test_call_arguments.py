"""Arguments of tool calls in the history: their bound covers what an engine's template writes of them."""

from __future__ import annotations

import json
import sys
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.billing.bounds import TOKENS_PER_MESSAGE
from ridges_proxy.billing.call_arguments import MAX_DEPTH, may_be_parsed, parsed_arguments
from ridges_proxy.runtime.json_structure import MAX_MARKS
from tests.support.chat import chat_of, tool_call_messages
from tests.support.table import check_rows

texts = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**80), 2**80) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


def written_forms(arguments: str) -> list[str]:
    """A call with the arguments, as a template may write it after Python's parser, which engines use."""
    (message,) = tool_call_messages(arguments)
    call = message["tool_calls"][0]
    parsed = {**call, "function": {**call["function"], "arguments": json.loads(arguments)}}
    return [
        json.dumps(call, ensure_ascii=False),
        json.dumps(parsed, ensure_ascii=False),
        json.dumps(parsed, ensure_ascii=False, indent=4),
        repr(parsed),
    ]


def size_of(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def bound_of(arguments: str) -> int:
    """The bound of a message with a call, without the markers around it."""
    (bound,) = chat_of(tool_call_messages(arguments)).prompt.bounds
    return bound - TOKENS_PER_MESSAGE - len('{"role":"assistant","content":null,"tool_calls":[]},')


@given(value=values)
@example(value=[float("nan"), float("inf"), float("-inf")])
@example(value={"\ud800": ["\udfff" * 3]})
@example(value=[1e15] * 9)
def test_no_form_of_arguments_exceeds_their_bound(value: object) -> None:
    arguments = json.dumps(value)
    assert max(map(size_of, written_forms(arguments))) <= bound_of(arguments)


@given(value=values, depth=st.integers(MAX_DEPTH - 3, MAX_DEPTH + 60), wide=st.booleans())
def test_no_form_of_deep_arguments_exceeds_their_bound(value: Any, depth: int, *, wide: bool) -> None:  # noqa: ANN401 - any JSON
    for level in range(depth):
        value = {"a&b": value, "n": 1e15} if level % 2 else [value, 1e15, "x"] if wide else [value]
    arguments = json.dumps(value)
    assert max(map(size_of, written_forms(arguments))) <= bound_of(arguments)


def test_numbers_in_deep_arguments_may_become_longer() -> None:
    def check(number: str) -> None:
        arguments = "[" * 130 + ",".join([number] * 2_000) + "]" * 130
        assert max(map(size_of, written_forms(arguments))) <= bound_of(arguments)

    check_rows(["1e15", "-2.2250738585072014e-308", "NaN", "1e999"], check)


def test_arguments_are_parsed_as_engines_parse_them_or_stay_a_text() -> None:
    deep, deeper = "[" * 200 + "]" * 200, "[" * 100_000 + "]" * 100_000
    rows: list[tuple[str, object, bool]] = [
        ('{"a":1}', {"a": 1}, False),
        ("[Infinity,-Infinity]", [float("inf"), float("-inf")], False),
        ("[1e999]", [float("inf")], False),
        ('["\\ud800"]', ["\\ud800"], False),
        ('{"\\udc00x":"\\\\ud800"}', {"\\udc00x": "\\ud800"}, False),
        (f"[NaN,{2**63}]"[5:-1], 2**63, False),
        ("no JSON", "no JSON", False),
        ("", "", False),
        ("9" * (sys.get_int_max_str_digits() + 1), "9" * (sys.get_int_max_str_digits() + 1), False),
        ("[" * 5_000, "[" * 5_000, False),
        ("]" * 2_500 + "[" * 2_500, "]" * 2_500 + "[" * 2_500, False),
        (f"[{'[1],' * 200}0]", [*([1] for _ in range(200)), 0], False),
        (deep, deep, True),
        (deeper, deeper, True),
        ('{"a":' * 200 + '"]"' + "}" * 200, '{"a":' * 200 + '"]"' + "}" * 200, True),
    ]

    def check(row: tuple[str, object, bool]) -> None:
        text, value, has_more = row
        parsed, added_tokens = parsed_arguments(text)
        assert parsed == value
        assert (added_tokens > 0) is has_more

    check_rows(rows, check)


def test_the_tokens_added_to_deep_arguments_are_the_sum_of_what_a_template_may_write() -> None:
    """Its parts: 4 spaces a level and a line break at each mark, 24 bytes a number, 16 a key, 5 an escape."""
    keys, depth = 125, 125 + 1
    text = '{"a&":' * keys + "[1,2]" + "}" * keys
    marks = 2 * depth + 1
    levels = sum(range(1, depth + 1)) + depth + sum(range(depth))

    assert parsed_arguments(text) == (text, 4 * levels + marks + 24 * (marks + 1) + 16 * keys + 5 * 3 * keys)


def test_arguments_are_too_deep_above_the_depth_that_is_measured() -> None:
    def check(row: tuple[str, str, str]) -> None:
        start, core, end = row
        deepest = start * (MAX_DEPTH - 1) + core + end * (MAX_DEPTH - 1)
        assert parsed_arguments(deepest) == (json.loads(deepest), 0)
        deeper = start + deepest + end
        value, added_tokens = parsed_arguments(deeper)
        assert value == deeper
        assert added_tokens > 0

    check_rows([("[", "[1]", "]"), ('{"a":', "[1]", "}"), ("[0,", "[1]", ",0]")], check)


def test_integers_of_python_stay_exact_as_long_as_orjson_can_write_them() -> None:
    """A surrogate makes Python's parser read the text."""

    def check(row: tuple[int, type[object]]) -> None:
        number, kind = row
        value, _ = parsed_arguments(f'["\\ud800", {number}]')
        assert value == ["\\ud800", number]
        assert type(value[1]) is kind

    check_rows([(2**63 - 1, int), (2**63, float), (-(2**63), int), (-(2**63) * 2, float), (0, int)], check)


def test_a_history_is_parsed_if_its_arguments_have_no_more_values_than_a_body() -> None:
    """Marks inside of strings are no values."""

    def arguments(marks_count: int, in_string: str = "") -> str:
        return "[" + "0," * (marks_count - 1) + f'"{in_string}"]'

    def check(row: tuple[list[str], bool]) -> None:
        texts, may_be = row
        messages = [message for text in texts for message in tool_call_messages(text)]
        assert may_be_parsed([{"role": "user", "content": arguments(MAX_MARKS * 2)}, *messages]) is may_be

    check_rows(
        [
            ([], True),
            ([arguments(MAX_MARKS)], True),
            ([arguments(MAX_MARKS + 1)], False),
            ([arguments(MAX_MARKS - 9), arguments(9)], True),
            ([arguments(MAX_MARKS - 9), arguments(10)], False),
            ([arguments(MAX_MARKS, ",")], True),
            ([arguments(9, "," * MAX_MARKS)], True),
            ([arguments(MAX_MARKS + 1, ",")], False),
        ],
        check,
    )


def test_a_flood_of_brackets_that_is_no_json_is_no_more_than_its_text() -> None:
    """A model that repeats itself until its limit leaves such arguments in the history."""
    text = '{"a":' + "[" * 4_000
    assert bound_of(text) < 1.1 * len(text)


def test_nothing_is_added_to_arguments_that_are_no_json_and_are_not_parsed() -> None:
    def check(text: str) -> None:
        assert parsed_arguments(text, parse=False) == (text, 0)

    check_rows(["][", "[", "no JSON"], check)
