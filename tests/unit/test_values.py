"""The types of JSON values: a value that fits is returned unchanged, all others are refused with a text."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from marshmallow import ValidationError, missing

from ridges_proxy.web.schemas.containers import List, Object, ObjectOf, OneMessage, StringOr
from ridges_proxy.web.schemas.field_table import Place, Treatment
from ridges_proxy.web.schemas.values import (
    AnyObject,
    Boolean,
    Choice,
    Constant,
    Integer,
    Name,
    Number,
    RunId,
    Scalar,
    String,
    Switch,
    Text,
    Value,
)
from tests.support.table import check_rows

INTEGER = Integer(-1, 5)
NUMBER = Number(-2, 2)
TEXT = Text(3)
CHOICE = Choice("low", "high")
FALSE = Constant(False)
TEXT_LIST = Constant(["text"])
OBJECTS = List(AnyObject(), 1, 2)
STRING_OR_OBJECT = StringOr(Text(256), AnyObject())
STOP = StringOr(TEXT, List(TEXT, 1, 2))
IDS = List(Integer(0, 9), 1, 2)
BIAS = ObjectOf(Number(-100, 100), 2)
SCALARS = Object({"on": Scalar(), "off": Scalar()}, Place())
SWITCHES = Object({"on": Switch()}, Place())

GOOD: list[tuple[Value, list[object]]] = [
    (INTEGER, [-1, 0, 5]),
    (NUMBER, [-2, 2, 0.5, -2.0, 0]),
    (Boolean(), [True, False]),
    (TEXT, ["", "abc", "\u2028é\0"]),
    (CHOICE, ["low", "high"]),
    (FALSE, [False]),
    (TEXT_LIST, [["text"]]),
    (AnyObject(), [{}, {"a": [1]}]),
    (OBJECTS, [[{}], [{"a": 1}, {}]]),
    (STRING_OR_OBJECT, ["auto", "x" * 256, {}, {"type": "function"}]),
    (STOP, ["abc", "", ["abc"], ["a", "b"]]),
    (IDS, [[0], [9, 0]]),
    (BIAS, [{}, {"1": 100, "2": -0.5}]),
    (SCALARS, [{}, {"on": True, "off": None}, {"on": "x" * 256}, {"on": 1.5}, {"off": -(1 << 63)}]),
    (SWITCHES, [{}, {"on": True}, {"on": None}]),
    (String(), ["", "\0" * 1000]),
    (Name(), ["", "é" * 256]),
    (RunId(), ["a", "é" * 256]),
]

BAD: list[tuple[Value, list[object]]] = [
    (INTEGER, [-2, 6, 1.0, 1.5, True, False, "1", None, [], {}, 1 << 70, 1e300]),
    (NUMBER, [-2.1, 3, True, "1", None, [], {}, float("nan"), float("inf"), 1 << 70]),
    (Boolean(), [0, 1, "true", "", None, [], {}]),
    (TEXT, ["abcd", 1, True, None, ["a"], {}]),
    (CHOICE, ["Low", "", 1, True, None, ["low"], {"low": 1}]),
    (FALSE, [True, 0, 0.0, "", None, [], {}]),
    (TEXT_LIST, [["text", "audio"], ["audio"], [], "text", {"text": 1}]),
    (AnyObject(), [[], "a", 1, True, None]),
    (OBJECTS, [[], [{}] * 3, {}, "a", 1, None]),
    (STRING_OR_OBJECT, ["x" * 257, 1, True, [], None]),
    (STOP, ["abcd", [], ["a"] * 3, 1, True, {}, None]),
    (IDS, [[], [1] * 3, "1", 1, {"0": 1}]),
    (BIAS, [{"1": 1, "2": 1, "3": 1}, [], "a", 1]),
    (SCALARS, [[], "on", 1, True]),
]

BAD_INSIDE: list[tuple[Value, object, object]] = [
    (OBJECTS, [{}, 5], 1),
    (STOP, ["a", "abcd"], 1),
    (STOP, [None], 0),
    (IDS, [1, True], 1),
    (IDS, [10], 0),
    (BIAS, {"a": 1, "b": 101}, "b"),
    (BIAS, {"a": True}, "a"),
    (SCALARS, {"on": 1, "chat_template": "x"}, "chat_template"),
    (SCALARS, {"on": ["x"]}, "on"),
    (SCALARS, {"on": {}}, "on"),
    (SCALARS, {"off": "x" * 257}, "off"),
    (SWITCHES, {"on": 1}, "on"),
]


def rows(table: list[tuple[Value, list[object]]]) -> list[tuple[Value, object]]:
    return [(value_type, value) for value_type, values in table for value in values]


def errors_of(value_type: Value, value: object) -> Any:  # noqa: ANN401 - marshmallow's nested form
    with pytest.raises(ValidationError) as refused:
        value_type.read(value)
    return refused.value.messages


def test_a_value_that_fits_is_returned_unchanged() -> None:
    def check(row: tuple[Value, object]) -> None:
        value_type, value = row
        assert value_type.read(value) == value
        assert type(value_type.read(value)) is type(value)

    check_rows(rows(GOOD), check)


def test_a_value_that_does_not_fit_is_refused_with_one_text() -> None:
    def check(row: tuple[Value, object]) -> None:
        (message,) = errors_of(*row)
        assert isinstance(message, str)
        assert message.startswith("Input ")

    check_rows(rows(BAD), check)


def test_an_error_inside_a_value_has_its_place() -> None:
    def check(row: tuple[Value, object, object]) -> None:
        value_type, value, place = row
        errors = errors_of(value_type, value)
        assert isinstance(errors, dict)
        assert list(errors) == [place]

    check_rows(BAD_INSIDE, check)


def test_the_json_schema_of_a_type_allows_the_values_that_the_type_reads() -> None:
    def check(row: tuple[Value, object]) -> None:
        value_type, value = row
        validator = Draft202012Validator(value_type.json_schema)
        try:
            value_type.read(value)
        except ValidationError:
            assert not validator.is_valid(value)
        else:
            assert validator.is_valid(value)

    inside = [(value_type, value) for value_type, value, _ in BAD_INSIDE]
    # JSON Schema has no difference between 1 and 1.0, and JSON has no NaN.
    not_in_json_schema = [(INTEGER, 1.0), (FALSE, 0.0), (NUMBER, float("nan"))]
    both = [row for row in rows(GOOD) + rows(BAD) + inside if repr(row) not in map(repr, not_in_json_schema)]
    check_rows(both, check)


def test_null_and_absent_are_allowed_unless_the_field_is_required() -> None:
    optional, required, defaulted = Text(3), Text(3, required=True), Text(3, load_default="a")
    assert (optional.deserialize(None), optional.deserialize(missing)) == (None, missing)
    assert (defaulted.deserialize(None), defaulted.deserialize(missing)) == (None, "a")
    for value in (None, missing):
        with pytest.raises(ValidationError, match="Field required"):
            required.deserialize(value)
    with pytest.raises(ValidationError, match="Field required"):
        Text(3, allow_none=False).deserialize(None)


def test_a_type_must_say_how_it_reads() -> None:
    with pytest.raises(NotImplementedError):
        Value({}).read(1)


def test_one_message_replaces_all_errors_inside_a_value() -> None:
    assert errors_of(OneMessage(IDS, "Input should be ids"), [1, "x"]) == ["Input should be ids"]


def test_an_object_refuses_keeps_or_drops_unknown_properties() -> None:
    properties, value = {"a": Text(3), "b": Text(3)}, {"x": 1, "y": "", "b": None}
    message = "Not accepted here; see /docs for the accepted fields"
    assert errors_of(Object(properties, Place()), value) == {"x": [message]}
    assert Object(properties, Place(others=Treatment.COUNTED)).read(value) == {"x": 1, "b": None}
    assert Object(properties, Place(others=Treatment.DROPPED)).read(value) == {"b": None}
