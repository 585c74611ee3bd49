"""A narrow schema loads what the whole one would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError, fields

from ridges_proxy.web.schemas.narrow_schema import MOST_KINDS, NarrowSchema

FIELDS: dict[str, fields.Field[Any]] = {
    "name": fields.String(required=True),
    **{f"number_{index}": fields.Integer(strict=True, allow_none=True) for index in range(8)},
    "kind": fields.String(load_default="usual"),
}
Whole = Schema.from_dict(dict(FIELDS))
Narrow = type("Narrow", (NarrowSchema,), dict(FIELDS))

names = st.sampled_from([*FIELDS, "unknown", "only", ""])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=3)


def outcome(schema: Schema, data: object) -> Any:  # noqa: ANN401 - whatever it loads
    try:
        return schema.load(data)  # type: ignore[arg-type] # of any kind
    except ValidationError as error:
        return error.messages


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.dictionaries(names, values, max_size=6))
def test_it_loads_and_refuses_as_the_whole_schema_does(data: dict[str, Any]) -> None:
    assert outcome(Narrow(), data) == outcome(Whole(), data)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_what_is_no_object_is_refused_alike(data: object) -> None:
    assert outcome(Narrow(), data) == outcome(Whole(), data)


def test_only_so_many_sets_of_fields_are_remembered() -> None:
    schema = Narrow()
    for number in range(2 * MOST_KINDS):
        chosen = [f"number_{bit}" for bit in range(8) if number >> bit & 1]
        assert schema.load({"name": "a", **dict.fromkeys(chosen, 1)})["name"] == "a"
    assert len(schema._narrowed) == MOST_KINDS
