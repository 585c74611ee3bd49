"""Bounds that a tokenizer counts: their texts, and the allowances for what is written around them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.call_arguments import parsed_arguments
from ridges_proxy.billing.exact_counts import Texts, counted_tokens, field_texts, message_texts
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ELEMENT, IMAGE, TOOLS, KEY, TEXT, LINE, ESCAPE = 32, 16_384, 1_024, 16, 4, 4, 5
"""The allowances in tokens. The quotes of a name are escaped too."""

HI = {"type": "text", "text": "hä"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
QUOTED = """it''s "hi'"""
CALL = {"id": "c", "type": "function", "function": {"name": "f<", "arguments": '{"a":"b"}'}}
PARSED_CALL = {"id": "c", "type": "function", "function": {"name": "f<", "arguments": {"a": "b"}}}
LINES_OF_CALL = "id\nc\ntype\nfunction\nfunction\nname\nf<\narguments\na\nb"


class Characters:
    """A tokenizer that makes a token of each character."""

    @staticmethod
    def count(texts: Sequence[str]) -> list[int]:
        return list(map(len, texts))


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


MESSAGES: list[tuple[Mapping[str, Any], Texts]] = [
    ({"role": "user", "content": "hä"}, Texts(ELEMENT, ("user",), (("hä",),))),
    (
        {"role": "user", "name": "a<&", "content": "hä"},
        Texts(ELEMENT + 2 * ESCAPE, ("user", "a<&"), (("hä",),)),
    ),
    (
        {"role": "user", "content": [HI, PICTURE, HI]},
        Texts(ELEMENT + 3 * ELEMENT + IMAGE, ("user",), (("hä", repr(HI)),) * 2),
    ),
    ({"role": "tool", "content": "hä"}, Texts(ELEMENT, ("tool",), (("hä", as_json(HI)),))),
    (
        {"role": "tool", "content": [HI | {"text": QUOTED}]},
        Texts(
            2 * ELEMENT,
            ("tool",),
            ((QUOTED, as_json(HI | {"text": QUOTED}), repr(HI | {"text": QUOTED})),),
        ),
    ),
    (
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        Texts(
            ELEMENT + 2 * (ELEMENT + 6 * KEY + 8 * TEXT + (2 * 8 + 1) * ESCAPE),
            ("assistant",),
            ((as_json(PARSED_CALL), repr(PARSED_CALL), LINES_OF_CALL, '{"a":"b"}'),) * 2,
        ),
    ),
]


def test_a_message_has_its_texts_in_all_forms_and_an_allowance_for_each_element() -> None:
    def check(row: tuple[Mapping[str, Any], Texts]) -> None:
        message, expected = row
        assert message_texts(message) == expected

    check_rows(MESSAGES, check)


def test_arguments_that_are_not_parsed_count_as_their_text_and_what_a_template_adds() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f<", "arguments": "[1]"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    _, added_tokens = parsed_arguments("[1]", parse=False)
    assert added_tokens > 0
    texts = message_texts(message, parse=False)
    assert texts.allowance_tokens == 2 * ELEMENT + 5 * KEY + 7 * TEXT + (2 * 7 + 1) * ESCAPE + added_tokens
    assert texts.forms[0][0] == as_json(call)


def test_a_field_is_written_twice_in_its_longest_form_and_its_names_once_more() -> None:
    def check(row: tuple[str, object, int, str]) -> None:
        name, value, allowance_tokens, names = row
        texts = field_texts(name, value)
        assert (texts.allowance_tokens, texts.once, texts.times) == (allowance_tokens, (names,), 2)
        (forms,) = texts.forms
        assert set(forms) >= {as_json(value), repr(value), json.dumps(value, ensure_ascii=False, indent=4)}

    tools = [{"type": "function", "function": {"name": "f<", "description": "ä\nb\n"}}]
    around_tools = 4 * KEY + 5 * TEXT + (2 * 6 + 1) * ESCAPE + 2 * LINE
    names = '"type":"function""function":"name":"f<""description":'
    check_rows(
        [
            ("tools", tools, TOOLS + around_tools, names),
            ("chat_template_kwargs", tools, around_tools, names),
        ],
        check,
    )


def test_a_deeply_nested_field_has_an_allowance_in_place_of_its_indented_form() -> None:
    """A level has its bracket's line, and a line for each value, with four spaces more."""
    value: object = [{"k": 1}, 2]
    for _ in range(100):
        value = [value]
    lines = [(level, 1) for level in range(100)] + [(100, 2), (101, 1)]
    indentation = sum(1 + 4 * level + count * (1 + 4 * (level + 1)) for level, count in lines)
    texts = field_texts("chat_template_kwargs", value)
    forms = (as_json(value), repr(value), "k\n1\n2")
    assert texts == Texts(indentation + KEY + TEXT + 2 * ESCAPE, ('"k":',), (forms,), 2)


def test_of_several_forms_the_longest_counts_as_often_as_it_is_written() -> None:
    texts = [Texts(10, ("ab",), (("a", "abc"), ("x",)), 2), Texts(1), Texts(2, ("abcd",), (("xy", "x"),))]
    assert counted_tokens(texts, Characters()) == [10 + 2 + 2 * (3 + 1), 1, 2 + 4 + 2]
