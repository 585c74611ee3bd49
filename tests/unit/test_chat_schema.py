"""The fields of a chat on `/v1`: a good value goes upstream unchanged, a bad one is refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest, upstream_body
from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.chat import ChatSchema, chat_from
from ridges_proxy.web.schemas.field_table import REQUEST
from ridges_proxy.web.schemas.problems import MAX_FIELDS
from ridges_proxy.web.schemas.request_schema import load
from tests.support.table import check_rows

SCHEMA = ChatSchema()
HELLO = [{"role": "user", "content": "hi"}]
DEFAULT_MAX_TOKENS = 77
MOST = 1_000_000
NEED_TOOLS = {"tool_choice", "parallel_tool_calls"}

GOOD: dict[str, list[Any]] = {
    "tools": [
        [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        [{}] * 512,
        [{"type": "function", "function": {"name": "aZ0_-" * 12 + "four"}}],
        [{"type": "function", "function": {"name": None}}, {"name": "f"}, {"function": 5}],
    ],
    "tool_choice": ["auto", "none", {"type": "function", "function": {"name": "f"}}],
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"a": [1]}}],
    "chat_template_kwargs": [{"thinking": True, "reasoning_effort": "low", "thinking_budget": 5}],
    "structured_outputs": [
        {"json": {"type": "object", "properties": {}}},
        {"regex": "a+"},
        {"choice": ["a"]},
    ],
    "structural_tag": ["{}", {"type": "structural_tag"}],
    "json_schema": ["{}", {"type": "object"}],
    "guided_json": ["{}", {"type": "object"}],
    "guided_regex": ["", "a+" * 5000],
    "guided_choice": [["a"], ["a"] * 1024],
    "guided_grammar": ["root ::= x"],
    "guided_whitespace_pattern": [" ?"],
    "guided_decoding_backend": ["xgrammar"],
    "regex": ["a+"],
    "ebnf": ["root ::= x"],
    "temperature": [0, 0.0, 0.7, 1, 2, 2.0],
    "top_p": [0, 0.1, 1],
    "top_k": [-1, 0, 40, MOST],
    "min_p": [0, 0.05, 1],
    "frequency_penalty": [-2, -0.5, 0, 2],
    "presence_penalty": [-2, -0.5, 0, 2],
    "repetition_penalty": [0, 1.1, 10],
    "logit_bias": [{"50256": -100, "1": 100, "2": 0.5}],
    "logprobs": [True, False],
    "top_logprobs": [0, 20],
    "seed": [0, -1, -(2**63), 2**63 - 1],
    "stop": ["", "END", ["a"], ["a"] * 16],
    "stop_regex": ["", "END", ["a"] * 16],
    "no_stop_trim": [True, False],
    "stop_token_ids": [[0], [1] * 128],
    "allowed_token_ids": [[0], [1] * 1024],
    "bad_words": [["a"] * 16],
    "min_tokens": [0, 5],
    "ignore_eos": [True, False],
    "skip_special_tokens": [True, False],
    "spaces_between_special_tokens": [True, False],
    "include_stop_str_in_output": [True, False],
    "parallel_tool_calls": [True, False],
    "add_generation_prompt": [True, False],
    "continue_final_message": [True, False],
    "reasoning_effort": ["low", "none"],
    "reasoning": [{"effort": "high", "enabled": True, "max_tokens": 5, "exclude": None, "summary": "auto"}],
    "thinking": [{"type": "enabled", "budget_tokens": 5, "clear_thinking": False}],
    "include_reasoning": [True, False],
    "separate_reasoning": [True, False],
    "stream_reasoning": [True, False],
    "verbosity": ["low"],
    "user": ["", "user-1", "x" * 256],
    "safety_identifier": ["user-1"],
    "service_tier": ["auto", "default"],
    "modalities": [["text"]],
}
"""Values that go upstream unchanged."""

NOT_BOOLEANS: list[Any] = [0, 1, "true", "", [], {}]
NOT_NUMBERS: list[Any] = ["0.5", True, False, [], {}, [0.5]]
NOT_NAMES: list[Any] = ["", "x" * 65, "a.b", "a b", "é", "f\n", 5, True, [], {}]
NOT_STRINGS: list[Any] = [5, True, [], {}, ["a"]]
NOT_OBJECTS: list[Any] = ["json_object", 5, [], True]

BAD: dict[str, list[Any]] = {
    "tools": [
        *({}, "f", 5, [5], [None], ["f"], [[]], [{}] * 513),
        *([{"function": {"name": name}}] for name in NOT_NAMES),
        *([{"name": name}] for name in NOT_NAMES),
    ],
    "tool_choice": [5, True, [], "x" * 257, *({"function": {"name": name}} for name in NOT_NAMES)],
    "response_format": NOT_OBJECTS,
    "chat_template_kwargs": [
        [],
        "x",
        {"chat_template": "{{ 1 }}"},
        {"documents": ["x"]},
        {"thinking": {}},
        {"thinking": [1]},
        {"thinking": "x" * 257},
    ],
    "temperature": [-0.1, 2.1, 10**30, *NOT_NUMBERS],
    "top_p": [-0.1, 1.1, *NOT_NUMBERS],
    "top_k": [-2, MOST + 1, 1.0, 0.5, *NOT_NUMBERS],
    "min_p": [-0.1, 1.1, *NOT_NUMBERS],
    "frequency_penalty": [-2.1, 2.1, *NOT_NUMBERS],
    "presence_penalty": [-2.1, 2.1, *NOT_NUMBERS],
    "repetition_penalty": [-0.1, 10.1, *NOT_NUMBERS],
    "logit_bias": [
        [],
        "x",
        5,
        {"1": 101},
        {"1": -101},
        {"1": "1"},
        {"1": None},
        {"1": True},
        {str(number): 0 for number in range(1025)},
    ],
    "logprobs": NOT_BOOLEANS,
    "top_logprobs": [-1, 21, 1.5, *NOT_NUMBERS],
    "seed": [2**63, -(2**63) - 1, 1.0, *NOT_NUMBERS],
    "structured_outputs": NOT_OBJECTS,
    "structural_tag": [5, True, [], ["a"]],
    "json_schema": [5, True, [], ["a"]],
    "guided_json": [5, True, [], ["a"]],
    "guided_regex": NOT_STRINGS,
    "guided_choice": ["a", {}, [5], ["a"] * 1025],
    "guided_grammar": NOT_STRINGS,
    "guided_whitespace_pattern": NOT_STRINGS,
    "guided_decoding_backend": [*NOT_STRINGS, "x" * 257],
    "regex": NOT_STRINGS,
    "ebnf": NOT_STRINGS,
    "stop": [["a"] * 17, [5], [None], {}, 5, "x" * 1025, ["x" * 1025]],
    "stop_regex": [["a"] * 17, [5], [None], {}, 5, "x" * 1025, ["x" * 1025]],
    "no_stop_trim": NOT_BOOLEANS,
    "allowed_token_ids": [[-1], [1.5], ["1"], 5, [1] * 1025],
    "bad_words": ["a", [5], {}, ["a"] * 17, ["x" * 1025]],
    "stop_token_ids": [[-1], [1.5], [True], ["1"], 5, "1", [1] * 129, [2**31 + 1]],
    "min_tokens": [-1, MOST + 1, 1.5, *NOT_NUMBERS],
    "ignore_eos": NOT_BOOLEANS,
    "skip_special_tokens": NOT_BOOLEANS,
    "spaces_between_special_tokens": NOT_BOOLEANS,
    "include_stop_str_in_output": NOT_BOOLEANS,
    "parallel_tool_calls": NOT_BOOLEANS,
    "add_generation_prompt": NOT_BOOLEANS,
    "continue_final_message": NOT_BOOLEANS,
    "reasoning_effort": [*NOT_STRINGS, "x" * 33],
    "reasoning": [[], "high", {"tokens": 5}, {"effort": {}}],
    "thinking": [[], True, {"budget": 5}, {"type": []}],
    "include_reasoning": NOT_BOOLEANS,
    "separate_reasoning": NOT_BOOLEANS,
    "stream_reasoning": NOT_BOOLEANS,
    "verbosity": [*NOT_STRINGS, "x" * 33],
    "user": [*NOT_STRINGS, "x" * 257],
    "safety_identifier": [*NOT_STRINGS, "x" * 257],
    "service_tier": ["priority", "flex", "scale", "", 5, True, [], {}],
    "modalities": [["audio"], ["text", "audio"], [], "text", ["image"], 5],
    # Fields that the proxy handles itself.
    "stream": NOT_BOOLEANS,
    "stream_options": [
        [],
        True,
        "x",
        {"include_usage": "false"},
        {"include_usage": 1},
        {"continuous_usage": True},
    ],
    "usage": [[], True, "x", {"include": "false"}, {"include": 1}, {"exclude": True}],
    "n": [0, -1, 129, 1.0, 1.5, 2**40, *NOT_NUMBERS],
    "max_tokens": [0, -1, MOST + 1, 1.0, 1.5, 2**40, 1e9, *NOT_NUMBERS],
    "max_completion_tokens": [0, -1, MOST + 1, 1.0, 1.5, 2**40, 1e9, *NOT_NUMBERS],
    "model": [*NOT_STRINGS, "x" * 257, "a\nb"],
    "run_id": ["", None, *NOT_STRINGS, "x" * 257, "a\x00"],
    "messages": [None, [], {}, "hi", 5, [5], [None], [[]]],
}


def body_of(**fields: object) -> dict[str, Any]:
    return {"run_id": "run", "messages": HELLO, **fields}


def chat_of(**fields: object) -> ChatRequest:
    return chat_from(load(SCHEMA, body_of(**fields)), DEFAULT_MAX_TOKENS)


def refused(**fields: object) -> set[str]:
    """The names of the fields that are refused."""
    with pytest.raises(InvalidRequestError) as error:
        load(SCHEMA, body_of(**fields))
    return {str(problem.loc[1]) for problem in error.value.problems}


def rows(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


# --- every field -------------------------------------------------------------------------------------------


def test_the_tables_have_every_field_of_the_schema() -> None:
    assert set(SCHEMA.fields) == set(BAD) == set(GOOD) | REQUEST.read | {"messages"}
    assert len(SCHEMA.fields) < MAX_FIELDS


def test_a_good_value_goes_upstream_unchanged() -> None:
    def check(row: tuple[str, object]) -> None:
        name, value = row
        fields: dict[str, object] = {"tools": [{}]} if name in NEED_TOOLS else {}
        sent = orjson.loads(upstream_body(chat_of(**fields, **{name: value}), "m", 5, stream=False))
        assert sent == {
            "model": "m",
            "messages": HELLO,
            **fields,
            name: value,
            "stream": False,
            "max_tokens": 5,
        }
        assert orjson.dumps(sent[name]) == orjson.dumps(value), "numbers keep their form"

    check_rows(rows(GOOD), check)


def test_a_bad_value_is_refused_by_the_name_of_its_field() -> None:
    def check(row: tuple[str, object]) -> None:
        name, value = row
        assert refused(**{name: value}) == {name}

    check_rows(rows(BAD), check)


def test_empty_lists_and_objects_count_as_absent() -> None:
    def check(fields: dict[str, Any]) -> None:
        assert chat_of(**fields) == chat_of()

    check_rows(
        [
            {"tools": []},
            {"tools": [], "tool_choice": "required", "parallel_tool_calls": True},
            {"tools": None, "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": "auto"},
            {"tool_choice": {}},
            {"stop": []},
            {"stop_token_ids": []},
            {"response_format": {}},
            {"chat_template_kwargs": {}},
            {"logit_bias": {}},
            {"stream_options": {}},
            {"reasoning": {}, "thinking": {}},
            {"structured_outputs": {}, "guided_choice": [], "bad_words": []},
        ],
        check,
    )


def test_all_faulty_fields_are_named_at_once() -> None:
    assert refused(n=0, best_of=5, temperature="x", messages=[]) == {
        "n",
        "best_of",
        "temperature",
        "messages",
    }


def test_null_counts_as_absent() -> None:
    def check(name: str) -> None:
        assert chat_of(**{name: None}) == chat_of()

    check_rows(sorted(set(BAD) - {"run_id", "messages"}), check)


def test_a_missing_field_is_named_with_its_text() -> None:
    def check(row: tuple[str, str]) -> None:
        name, message = row
        fields = body_of()
        del fields[name]
        with pytest.raises(InvalidRequestError) as error:
            load(SCHEMA, fields)
        assert [(problem.loc, problem.msg) for problem in error.value.problems] == [(["body", name], message)]

    check_rows(
        [
            ("run_id", "Field required; the header X-Run-Id or a run token can name the run, too"),
            ("messages", "Field required"),
        ],
        check,
    )


def test_a_body_with_too_many_fields_is_refused_without_their_names() -> None:
    with pytest.raises(InvalidRequestError) as error:
        load(SCHEMA, body_of(**{f"field{number}": 0 for number in range(MAX_FIELDS)}))
    assert [(problem.loc, problem.msg) for problem in error.value.problems] == [
        (["body"], "Input should have at most 100 fields")
    ]


# --- the bounds of the cost --------------------------------------------------------------------------------


LIMITS: list[tuple[dict[str, Any], int]] = [
    ({}, DEFAULT_MAX_TOKENS),
    ({"max_tokens": None, "max_completion_tokens": None}, DEFAULT_MAX_TOKENS),
    ({"max_tokens": 1}, 1),
    ({"max_tokens": 500}, 500),
    ({"max_completion_tokens": 500}, 500),
    ({"max_tokens": 5, "max_completion_tokens": 500}, 5),
    ({"max_tokens": 500, "max_completion_tokens": 5}, 5),
    ({"max_tokens": None, "max_completion_tokens": 5}, 5),
    ({"max_tokens": MOST}, MOST),
]


def test_the_smaller_one_of_two_limits_holds_and_without_a_limit_the_default() -> None:
    def check(row: tuple[dict[str, Any], int]) -> None:
        limits, expected = row
        chat = chat_of(**limits)
        assert chat.max_tokens == expected
        assert not {"max_tokens", "max_completion_tokens"} & chat.fields.keys()

    check_rows(LIMITS, check)


def test_n_becomes_the_number_of_choices() -> None:
    def check(row: tuple[int | None, int]) -> None:
        n, choices = row
        chat = chat_of(n=n)
        assert chat.choices == choices
        assert "n" not in chat.fields

    check_rows([(None, 1), (1, 1), (2, 2), (128, 128)], check)


STREAM_OPTIONS: list[tuple[dict[str, Any] | None, bool, bool]] = [
    (None, False, False),
    ({}, False, False),
    ({"include_usage": None}, False, False),
    ({"include_usage": False}, False, False),
    ({"include_usage": True}, True, False),
    ({"include_obfuscation": True}, False, False),
    ({"include_usage": True, "continuous_usage_stats": True}, True, True),
    ({"include_usage": True, "continuous_usage_stats": None}, True, False),
    ({"continuous_usage_stats": True}, False, False),
]


def test_the_usage_is_shown_to_clients_that_ask_for_it_and_always_asked_for_upstream() -> None:
    def check(row: tuple[dict[str, Any] | None, bool, bool]) -> None:
        options, shows_usage, shows_chunk_usage = row
        chat = chat_of(stream_options=options)
        assert (chat.shows_usage, chat.shows_chunk_usage) == (shows_usage, shows_chunk_usage)
        sent = orjson.loads(upstream_body(chat, "m", 5, stream=True))
        assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}

    check_rows(STREAM_OPTIONS, check)


def test_the_cost_is_shown_on_demand_with_the_usage_and_the_option_is_not_sent_upstream() -> None:
    def check(row: tuple[dict[str, Any] | None, bool]) -> None:
        option, shows_cost = row
        chat = chat_of(usage=option)
        assert (chat.shows_cost, chat.shows_usage) == (shows_cost, shows_cost)
        assert "usage" not in orjson.loads(upstream_body(chat, "m", 5, stream=False))

    check_rows([(None, False), ({}, False), ({"include": False}, False), ({"include": True}, True)], check)


def test_the_run_is_not_sent_upstream() -> None:
    assert b"run" not in upstream_body(chat_of(), "m", 5, stream=True)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(fields=st.dictionaries(st.sampled_from(sorted(BAD)), json_values, min_size=1, max_size=3))
def test_any_value_of_a_field_is_bounded_or_refused(fields: dict[str, Any]) -> None:
    try:
        chat = chat_of(**fields)
    except InvalidRequestError:
        return
    assert 1 <= chat.choices <= 128
    assert 1 <= chat.max_tokens <= MOST
    assert chat.fields.keys() <= GOOD.keys()
    upstream_body(chat, "m", 5, stream=True)
