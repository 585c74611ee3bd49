"""JSON with NaN and infinities becomes strict JSON, in a time that does not depend on where they stand."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.runtime.json_structure import MAX_MARKS
from ridges_proxy.upstream.strict_json import strict_json

texts = st.text(st.sampled_from('NaNInfinity-"\\, :1é')) | st.text()
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


def strict_value(value: object) -> object:
    """The value as it is after `strict_json`."""
    return json.loads(json.dumps(value), parse_constant={"-Infinity": -9999.0}.get)


@given(value=json_values)
def test_only_constants_outside_strings_are_replaced(value: object) -> None:
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")

    strict = strict_json(data) or data

    assert json.loads(strict.decode("utf-8", "surrogatepass"), parse_constant=str) == strict_value(value)


def test_the_most_values_that_an_event_may_have_are_made_strict() -> None:
    values = [-1.5e-07] * (MAX_MARKS - 2) + [float("-inf")]

    strict = strict_json(json.dumps(values).encode())

    assert strict is not None
    assert orjson.loads(strict)[-1] == -9999.0


def test_data_with_more_strings_than_json_can_have_is_left() -> None:
    """Of 2 MiB each pair of quotes would be looked at."""
    assert strict_json(b'{"a":NaN,' + b'""' * 3 * MAX_MARKS + b"}") is None
