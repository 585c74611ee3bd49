"""How JSON values are read: what passes comes back as it came, all else is refused with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from marshmallow import ValidationError

from ridges_proxy.web.schemas.readers import (
    boolean,
    choice,
    constant,
    integer,
    integers,
    json_list,
    json_object,
    number,
    numbers_by_name,
    scalars,
    text,
    text_or,
    texts_or_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = integer(-1, 5)
NUMBER = number(-2, 2)
TEXT = text(3)
WORD = choice("low", "high")
NO = constant(False)
LIST = json_list(2)
WORD_OR_OBJECT = text_or(json_object)
STOPS = texts_or_text(2, 3)
IDS = integers(2, 0, 9)
BIAS = numbers_by_name(2, -100, 100)
SWITCHES = scalars(frozenset({"on", "off"}))

GOOD: list[tuple[Callable[[Any], Any], list[object]]] = [
    (WHOLE, [-1, 0, 5]),
    (NUMBER, [-2, 2, 0.5, -2.0, 0]),
    (boolean, [True, False]),
    (TEXT, ["", "abc", "\u2028é\0"]),
    (WORD, ["low", "high"]),
    (NO, [False]),
    (constant(["text"]), [["text"]]),
    (json_object, [{}, {"a": [1]}]),
    (LIST, [[{}], [{"a": 1}, {}]]),
    (WORD_OR_OBJECT, ["auto", "x" * 256, {}, {"type": "function"}]),
    (STOPS, ["abc", "", ["abc"], ["a", "b"]]),
    (IDS, [[0], [9, 0]]),
    (BIAS, [{}, {"1": 100, "2": -0.5}]),
    (SWITCHES, [{}, {"on": True, "off": None}, {"on": "x" * 256}, {"on": 1.5}, {"off": -(1 << 63)}]),
]

BAD: list[tuple[Callable[[Any], Any], list[object]]] = [
    (WHOLE, [-2, 6, 1.0, 1.5, True, False, "1", None, [], {}, 1 << 70, 1e300]),
    (NUMBER, [-2.1, 3, True, "1", None, [], {}, float("nan"), float("inf"), 1 << 70]),
    (boolean, [0, 1, "true", "", None, [], {}]),
    (TEXT, ["abcd", 1, True, None, ["a"], {}]),
    (WORD, ["Low", "", 1, True, None, ["low"], {"low": 1}]),
    (NO, [True, 0, 0.0, "", None, [], {}]),
    (constant(["text"]), [["text", "audio"], ["audio"], [], "text", {"text": 1}]),
    (json_object, [[], "a", 1, True, None]),
    (LIST, [[], [{}] * 3, {}, "a", 1, None]),
    (WORD_OR_OBJECT, ["x" * 257, 1, True, [], None]),
    (STOPS, ["abcd", [], ["a"] * 3, 1, True, {}, None]),
    (IDS, [[], [1] * 3, "1", 1, {"0": 1}]),
    (BIAS, [{"1": 1, "2": 1, "3": 1}, [], "a", 1]),
    (SWITCHES, [[], "on", 1, True]),
]


def each(table: list[tuple[Callable[[Any], Any], list[object]]]) -> list[Any]:
    return [(read, value) for read, values in table for value in values]


@pytest.mark.parametrize(("read", "value"), each(GOOD))
def test_what_passes_comes_back_as_it_came(read: Callable[[Any], Any], value: object) -> None:
    assert read(value) == value
    assert type(read(value)) is type(value)


@pytest.mark.parametrize(("read", "value"), each(BAD))
def test_what_does_not_fit_is_refused_in_words(read: Callable[[Any], Any], value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        read(value)
    (message,) = refused.value.messages
    assert isinstance(message, str)
    assert message.startswith("Input ")


@pytest.mark.parametrize(
    ("read", "value", "place"),
    [
        (LIST, [{}, 5], 1),
        (STOPS, ["a", "abcd"], 1),
        (STOPS, [None], 0),
        (IDS, [1, True], 1),
        (IDS, [10], 0),
        (BIAS, {"a": 1, "b": 101}, "b"),
        (BIAS, {"a": True}, "a"),
        (SWITCHES, {"on": 1, "chat_template": "x"}, "chat_template"),
        (SWITCHES, {"on": ["x"]}, "on"),
        (SWITCHES, {"on": {}}, "on"),
        (SWITCHES, {"off": "x" * 257}, "off"),
    ],
)
def test_a_fault_inside_is_told_with_its_place(
    read: Callable[[Any], Any], value: object, place: object
) -> None:
    with pytest.raises(ValidationError) as refused:
        read(value)
    assert isinstance(refused.value.messages, dict)
    assert list(refused.value.messages) == [place]
