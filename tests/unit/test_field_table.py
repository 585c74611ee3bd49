"""The table of fields: nothing that is dropped is counted or sent, and all that is sent is counted."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest, upstream_body
from ridges_proxy.billing.prompt_fields import CONSTRAINT_FIELDS, RENDERED_FIELDS
from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas import field_table as table
from ridges_proxy.web.schemas.agents import EmbeddingSchema, InferenceSchema
from ridges_proxy.web.schemas.chat import ChatSchema, chat_from
from ridges_proxy.web.schemas.chat_messages import Message, Part
from ridges_proxy.web.schemas.containers import Object
from ridges_proxy.web.schemas.embeddings import EmbeddingsSchema
from ridges_proxy.web.schemas.field_table import PLACES, Place, Treatment
from ridges_proxy.web.schemas.request_schema import load
from tests.support.table import check_rows

CHAT = ChatSchema()
INFERENCE = InferenceSchema()

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODY: dict[str, Any] = {
    "run_id": "run",
    "messages": [
        {"role": "user", "content": [IMAGE, {"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "a", "reasoning": "r", "tool_calls": [CALL]},
        {"role": "tool", "content": "t", "tool_call_id": "c"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "stream_options": {"include_usage": True},
    "usage": {"include": True},
    "chat_template_kwargs": {"thinking": True},
    "reasoning": {"effort": "low"},
    "thinking": {"type": "enabled"},
}
"""A request with each place of the table."""

PATHS: list[tuple[Place, tuple[str | int, ...]]] = [
    (table.REQUEST, ()),
    (table.STREAM_OPTIONS, ("stream_options",)),
    (table.USAGE, ("usage",)),
    (table.TEMPLATE_SWITCHES, ("chat_template_kwargs",)),
    (table.REASONING, ("reasoning",)),
    (table.THINKING, ("thinking",)),
    (table.MESSAGE, ("messages", 0)),
    (table.ASSISTANT_MESSAGE, ("messages", 1)),
    (table.MESSAGE, ("messages", 2)),
    (table.PART, ("messages", 0, "content", 0)),
    (table.PART, ("messages", 0, "content", 1)),
    (table.IMAGE_URL, ("messages", 0, "content", 0, "image_url")),
    (table.TOOL_CALL, ("messages", 1, "tool_calls", 0)),
    (table.CALLED_FUNCTION, ("messages", 1, "tool_calls", 0, "function")),
    (table.TOOL, ("tools", 0)),
    (table.TOOL_FUNCTION, ("tools", 0, "function")),
]

EMPTY: list[Any] = [None, "", [], {}]
VALUES: list[Any] = ["x", 5, 0, 0.5, True, False, ["x"], {"a": "x"}, {"include": True}, [None], {"": None}]


def body_with(path: tuple[str | int, ...], name: str, value: object) -> dict[str, Any]:
    """The request with one more field in a place."""
    body = copy.deepcopy(BODY)
    place: Any = body
    for step in path:
        place = place[step]
    place[name] = value
    return body


def chat_of(body: dict[str, Any]) -> ChatRequest:
    return chat_from(load(CHAT, body), 77)


def sent(chat: ChatRequest) -> bytes:
    return upstream_body(chat, "m", 5, stream=True)


def facts_of(chat: ChatRequest) -> tuple[object, ...]:
    """All that a call does with a request. Its fields are JSON, which has no equality."""
    return (sent(chat), chat.prompt, chat.max_tokens, chat.choices, chat.shows_usage, chat.hides_tokens)


PLAIN = chat_of(BODY)


def names_of(place: Place) -> Counter[str]:
    """How often each name is listed for a place."""
    listed = [place.counted, place.passed, place.read, place.dropped, place.refused]
    return Counter(name for names in listed for name in names)


# --- the table and the types -------------------------------------------------------------------------------


def test_a_field_is_listed_once_for_a_place() -> None:
    twice = {place.title: [name for name, times in names_of(place).items() if times > 1] for place in PLACES}
    assert {title: names for title, names in twice.items() if names} == {}
    assert len({place.title for place in PLACES}) == len(PLACES)


def test_the_schemas_have_types_for_the_fields_that_the_table_passes_on_or_reads() -> None:
    schemas = [CHAT, EmbeddingsSchema()]
    typed = {schema.place.title: set(schema.fields) for schema in schemas}
    typed[table.AGENTS.title] = set(INFERENCE.fields) | set(EmbeddingSchema().fields)
    objects: list[Object] = [each for each in CHAT.fields.values() if isinstance(each, Object)]
    objects += [Message().assistant, Message().other, *Part().kinds.values()]
    for each in objects:
        typed.setdefault(each.place.title, set()).update(each.properties)
    expected = {place.title: set(place.sent | place.read) for place in PLACES if place.title in typed}
    assert typed == expected
    assert len(typed) == 11


def test_the_fields_that_the_table_counts_are_those_that_the_bound_counts() -> None:
    assert table.REQUEST.counted == RENDERED_FIELDS | {"messages"}


# --- dropped fields ----------------------------------------------------------------------------------------


def test_an_unknown_field_that_is_empty_is_neither_counted_nor_sent_in_any_place() -> None:
    def check(row: tuple[tuple[str | int, ...], str, object]) -> None:
        path, name, value = row
        chat = chat_of(body_with(path, name, value))
        assert facts_of(chat) == facts_of(PLAIN)

    names = ["unknown", "", "é", "__class__", "chat_template", "best_of", "documents", "audio", "uuid"]
    check_rows([(path, name, value) for _, path in PATHS for name in names for value in EMPTY], check)


def test_a_dropped_field_is_neither_counted_nor_sent_with_any_value() -> None:
    def check(row: tuple[tuple[str | int, ...], str, object]) -> None:
        path, name, value = row
        chat = chat_of(body_with(path, name, value))
        assert facts_of(chat) == facts_of(PLAIN)

    rows = [(path, name, value) for place, path in PATHS for name in place.dropped for value in VALUES]
    assert {"metadata", "store", "cache_control", "parsed", "parsed_arguments", "index"} <= {
        name for _, name, _ in rows
    }
    check_rows(rows, check)


def test_an_agents_request_drops_all_other_fields() -> None:
    body = {"run_id": "run", "messages": [{"role": "user", "content": "Hello"}]}
    expected = load(INFERENCE, body)
    for value in (*EMPTY, *VALUES):
        messages = [{"role": "user", "content": "Hello", "tool_calls": value, "unknown": value}]
        assert load(INFERENCE, {**body, "messages": messages, "tools": value, "unknown": value}) == expected


# --- all other fields --------------------------------------------------------------------------------------


def test_an_unknown_field_with_a_value_is_refused_by_name_or_counted_as_it_is_sent() -> None:
    def check(row: tuple[Place, tuple[str | int, ...], str, object]) -> None:
        place, path, name, value = row
        body = body_with(path, name, value)
        if place.others is Treatment.REFUSED:
            with pytest.raises(InvalidRequestError) as error:
                load(CHAT, body)
            (problem,) = error.value.problems
            assert problem.loc == ["body", *path, name]
            assert problem.msg == "Not accepted here; see /docs for the accepted fields"
            return
        chat = chat_of(body)
        added_bytes = len(sent(chat)) - len(sent(PLAIN))
        assert added_bytes > len(name)
        assert chat.prompt_tokens - PLAIN.prompt_tokens >= added_bytes

    rows = [
        (place, path, name, value) for place, path in PATHS for name in ("unknown", "é") for value in VALUES
    ]
    check_rows(rows, check)


def test_a_refused_field_is_named_with_the_reason() -> None:
    def check(row: tuple[tuple[str | int, ...], str, str]) -> None:
        path, name, reason = row
        with pytest.raises(InvalidRequestError) as error:
            load(CHAT, body_with(path, name, "x"))
        (problem,) = error.value.problems
        assert problem.loc == ["body", *path, name]
        assert problem.msg == f"Not accepted here: {reason}; see /docs for the accepted fields"

    rows = [(path, name, why) for place, path in PATHS for name, why in place.refused.items()]
    assert {"best_of", "chat_template", "input_ids", "documents", "models", "prefix", "audio"} <= {
        name for _, name, _ in rows
    }
    check_rows(rows, check)


CONSTRAINTS = sorted(CONSTRAINT_FIELDS)


def test_a_constraint_is_counted_as_it_is_sent() -> None:
    def check(row: tuple[str, object]) -> None:
        name, value = row
        chat = chat_of({**BODY, name: value})
        assert orjson.loads(sent(chat))[name] == value
        assert chat.prompt_tokens - PLAIN.prompt_tokens >= 2 * 3000

    long = "é" * 1500
    others: dict[str, object] = {
        "guided_choice": [long],
        "response_format": {"type": long},
        "structured_outputs": {"regex": long},
    }
    check_rows([(name, others.get(name, long)) for name in CONSTRAINTS], check)


def test_a_text_that_controls_reasoning_is_counted_as_it_is_sent() -> None:
    def check(row: tuple[str, object]) -> None:
        name, value = row
        chat = chat_of({**BODY, name: value})
        assert orjson.loads(sent(chat))[name] == value
        assert chat.prompt_tokens - PLAIN.prompt_tokens >= len(orjson.dumps(value))

    word, long = "𒀀" * 32, "é" * 256
    rows: list[tuple[str, object]] = [
        ("reasoning_effort", word),
        ("verbosity", word),
        ("reasoning", {"effort": long, "summary": long, "enabled": True}),
        ("thinking", {"type": long, "budget_tokens": long}),
    ]
    check_rows(rows, check)


def test_a_constraint_counts_again_at_each_developer_message_that_may_repeat_it() -> None:
    def tokens(**fields: object) -> int:
        messages = [{"role": "user", "content": "a"}, {"role": "developer", "content": "b"}]
        return chat_of({"run_id": "run", "messages": messages, **fields}).prompt_tokens

    assert tokens(regex="x" * 1000) - tokens() >= 2 * 2 * 1000


# --- any field ---------------------------------------------------------------------------------------------

ANY_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
LISTED = sorted({name for place in PLACES for name in names_of(place)})


@given(
    additions=st.lists(
        st.tuples(st.sampled_from(PATHS), st.sampled_from(LISTED) | st.text(max_size=5), ANY_VALUES),
        min_size=1,
        max_size=4,
    )
)
def test_fields_that_the_table_does_not_pass_on_never_change_what_is_sent(
    additions: list[tuple[tuple[Place, tuple[str | int, ...]], str, Any]],
) -> None:
    body = copy.deepcopy(BODY)
    for (place, path), name, value in additions:
        target: Any = body
        for step in path:
            target = target[step]
        if name in place.sent | place.read or (
            place.others is Treatment.COUNTED and name not in place.dropped
        ):
            continue
        target[name] = value
    try:
        chat = chat_of(body)
    except InvalidRequestError:
        return
    assert facts_of(chat) == facts_of(PLAIN)
