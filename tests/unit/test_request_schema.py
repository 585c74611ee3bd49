"""A request schema loads the same as marshmallow, but asks only the fields that are given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields
from werkzeug.datastructures import MultiDict

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.field_table import Place, Treatment, is_empty
from ridges_proxy.web.schemas.request_schema import RequestSchema, load, query_fields
from ridges_proxy.web.schemas.run_token import DEFAULT_TTL_SECONDS, IssueSchema
from tests.support.table import check_rows

FIELDS: dict[str, fields.Field[Any]] = {
    "name": fields.String(required=True),
    **{f"number_{index}": fields.Integer(strict=True, allow_none=True) for index in range(8)},
    "kind": fields.String(load_default="usual"),
    "renamed": fields.Boolean(data_key="other"),
}
Strict = type("Strict", (RequestSchema,), dict(FIELDS))
Tolerant = type("Tolerant", (RequestSchema,), {**FIELDS, "place": Place(others=Treatment.DROPPED)})

KNOWN = {"other", *FIELDS} - {"renamed"}

names = st.sampled_from([*FIELDS, "other", "unknown", "only", "", "_schema"])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=3)


def outcome(load: Any, data: object) -> Any:  # noqa: ANN401 - the result or the errors
    try:
        return load(data)
    except ValidationError as error:
        return error.messages


@given(data=st.dictionaries(names, values, max_size=6))
def test_it_loads_and_refuses_as_marshmallow_does_without_empty_unknown_fields(data: dict[str, Any]) -> None:
    known = {key: value for key, value in data.items() if key in KNOWN or not is_empty(value)}
    for schema, unknown in ((Strict(), RAISE), (Tolerant(), EXCLUDE)):
        expected = outcome(
            lambda data, each=(schema, unknown): Schema.load(each[0], data, unknown=each[1]), known
        )
        assert outcome(schema.load, data) == expected


def test_data_that_is_no_object_is_refused_as_by_marshmallow() -> None:
    def check(data: object) -> None:
        assert outcome(Strict().load, data) == {"_schema": ["Invalid input type."]}
        with pytest.raises(InvalidRequestError):
            load(Strict(), data)

    check_rows([None, [], "text", 5], check)


def test_marshmallows_options_of_load_are_supported() -> None:
    assert Strict().load({"x": 1}, partial=True, unknown=EXCLUDE) == {}
    assert Strict().load([{"name": "a"}], many=True) == [{"name": "a", "kind": "usual"}]


def test_fields_and_errors_are_in_the_order_of_the_schema_and_unknown_fields_in_that_of_the_data() -> None:
    data: dict[str, object] = {"z": 1, "number_3": 3, "a": 1, "other": True, "number_1": 1, "name": "n"}
    assert list(Tolerant().load(data)) == ["name", "number_1", "number_3", "kind", "renamed"]
    errors = outcome(Strict().load, {**data, "name": 5, "number_3": "x"})
    assert list(errors) == ["name", "number_3", "z", "a"]


def test_a_repeated_name_in_a_query_is_refused() -> None:
    assert query_fields(MultiDict([("a", "1"), ("b", "2")])) == {"a": "1", "b": "2"}
    with pytest.raises(InvalidRequestError) as error:
        query_fields(MultiDict([("a", "1"), ("b", "2"), ("a", "1")]))
    assert [problem.loc for problem in error.value.problems] == [["query", "a"]]


def test_a_run_token_has_a_default_lifetime() -> None:
    assert IssueSchema().load({"run_id": "r"})["ttl_seconds"] == DEFAULT_TTL_SECONDS
    assert IssueSchema().load({"run_id": "r", "ttl_seconds": None})["ttl_seconds"] == DEFAULT_TTL_SECONDS
    assert IssueSchema().load({"run_id": "r", "ttl_seconds": 5})["ttl_seconds"] == 5
