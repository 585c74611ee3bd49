"""`usage.cost` in an answer: the number, and that nothing else changes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.billing.prices import Usage
from ridges_proxy.upstream import usage_cost
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from ridges_proxy.upstream.usage_cost import MAX_KEYS, MAX_USAGE_BYTES, with_cost
from tests.support.table import check_rows

UNREPORTED = Usage(7, 3)
TOKENS = '"prompt_tokens":7,"completion_tokens":3,"total_tokens":10'

MANY = '"a":[' + ",".join(['{"usage":{}}'] * MAX_KEYS) + "]"
LARGE = "x" * LARGE_BYTES
LONG, LONG_NUMBER = "é" * MAX_USAGE_BYTES, "1" * MAX_USAGE_BYTES
COST = '"cost":4.05e-6'

PLACES = [
    # An answer, and the same with a cost of 4,050 nano-USD.
    ('{"choices":[1],"usage":{"x":1.0}}', f'{{"choices":[1],"usage":{{{COST},"x":1.0}}}}'),
    ('{ "usage" :\t{ "x" : 1e2 } , "é" : 1.5 }\n', f'{{ "usage" :\t{{{COST}, "x" : 1e2 }} , "é" : 1.5 }}\n'),
    ('{"usage": { } }', f'{{"usage": {{{COST} }} }}'),
    ('{"usage": null, "x":[]}', f'{{"usage": {{{TOKENS},{COST}}}, "x":[]}}'),
    ('{"x":[]} \n', f'{{"x":[],"usage":{{{TOKENS},{COST}}}}}'),
    # A key of this name inside another object, before and behind the answer's own.
    ('{"a":{"usage":{}},"usage":{}}', f'{{"a":{{"usage":{{}}}},"usage":{{{COST}}}}}'),
    ('{"usage":{},"a":[{"usage":{"b":1}}]}', f'{{"usage":{{{COST}}},"a":[{{"usage":{{"b":1}}}}]}}'),
    # Text that looks like the key, as a value and in a key.
    (r'{"usage":{},"a":"\"usage\":{}"}', rf'{{"usage":{{{COST}}},"a":"\"usage\":{{}}"}}'),
    (r'{"usage":{},"a\"usage":{}}', rf'{{"usage":{{{COST}}},"a\"usage":{{}}}}'),
    ('{"usage":{},"a":"usage"}', f'{{"usage":{{{COST}}},"a":"usage"}}'),
    # Another cost, and another kind of value.
    ('{"usage":{"cost":1, "x":1}}', f'{{"usage":{{{COST},"x":1}}}}'),
    ('{"usage":[1]}', f'{{"usage":{{{TOKENS},{COST}}}}}'),
    # Not found: another spelling, too many keys of this name.
    (r'{"\u0075sage":1}', rf'{{"\u0075sage":1,"usage":{{{TOKENS},{COST}}}}}'),
    (f'{{"usage":{{}},{MANY}}}', f'{{"usage":{{}},{MANY},"usage":{{{TOKENS},{COST}}}}}'),
    # Large, with what only a parser in Python accepts.
    (rf'{{"usage":{{}},"a":"\ud800{LARGE}"}}', rf'{{"usage":{{{COST}}},"a":"\ud800{LARGE}"}}'),
    (rf'{{"usage":{{"cost":1}},"a":"{LARGE}"}}', rf'{{"usage":{{{COST}}},"a":"{LARGE}"}}'),
    (f'{{"usage":{{"a":"{LONG}"}}}}', f'{{"usage":{{"a":"{LONG}"}},"usage":{{{TOKENS},{COST}}}}}'),
    (f'{{"usage":1.{LONG_NUMBER}}}', f'{{"usage":1.{LONG_NUMBER},"usage":{{{TOKENS},{COST}}}}}'),
    (rf'{{"usage":{{"cost":"\ud800"}},"a":"{LARGE}"}}',
     rf'{{"usage":{{"cost":"\ud800"}},"a":"{LARGE}","usage":{{{TOKENS},{COST}}}}}'),
]  # fmt: skip


def test_the_cost_is_written_into_the_usage_of_the_answer_and_nothing_else_changes() -> None:
    def check(row: tuple[str, str]) -> None:
        answer, expected = row
        assert with_cost(answer.encode(), 4050, UNREPORTED) == expected.encode()

    check_rows(PLACES, check)


def test_the_bytes_that_are_tried_have_a_limit() -> None:
    """Each key of this name that is not the answer's own makes the rest of the answer be read."""
    key, other = b'{"usage":{},"a":', b'[{"usage":{}}]}'
    found, not_found = b'{"usage":{"cost":1e-9},"a":', b',"usage":'
    tried_bytes = len(key + other) - 1 + len(other) - 2

    def check(row: tuple[int, bool]) -> None:
        limit_bytes, is_found = row
        with patch.object(usage_cost, "MAX_TRIED_BYTES", limit_bytes):
            answer = with_cost(key + other, 1, UNREPORTED)
        assert (answer.startswith(found), not_found in answer) == (is_found, not is_found)

    check_rows([(tried_bytes, True), (tried_bytes - 1, False)], check)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('usage"\\:{}', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["usage", 'x"usage', "a"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["usage", "a", "b", "\\"]), JSON), st.integers(0, 10**15))
@example({"usage": {"cost": 5}}, 0)
def test_any_answer_keeps_its_other_values_and_has_the_exact_cost(
    document: dict[str, Any], cost_nanousd: int
) -> None:
    document = {"choices": []} | document
    with_it = json.loads(
        with_cost(orjson.dumps(document), cost_nanousd, UNREPORTED), parse_float=Decimal, parse_int=Decimal
    )
    usage = with_it.pop("usage")
    assert usage.pop("cost") * NANOUSD_PER_USD == cost_nanousd
    reported = document.pop("usage", None)
    if isinstance(reported, dict):
        reported.pop("cost", None)
        assert usage == reported
    else:
        assert usage == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert with_it == document
