"""What goes upstream, and that its prompt counts no more than its bound however a template writes it."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest, upstream_body
from ridges_proxy.billing.rendered_bounds import (
    MAX_DEPTH,
    MAX_IMAGE_TOKENS,
    TOKENS_FOR_TOOLS,
    TOKENS_PER_KEY,
    rendered_bound_tokens,
)
from ridges_proxy.errors import InvalidRequestError

steady = settings(max_examples=200, derandomize=True, database=None, deadline=None)

HELLO = [{"role": "user", "content": "hi"}]
HELLO_TOKENS = len(b'[{"role":"user","content":"hi"}]') + 16 + 256


def chat_of(
    messages: list[dict[str, Any]] | None = None, max_tokens: int = 10, **fields: object
) -> ChatRequest:
    return ChatRequest.of(messages or HELLO, fields, max_tokens)


def calling(arguments: str, **beside: object) -> list[dict[str, Any]]:
    """An assistant's message that calls a tool."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}, **beside}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}]


def showing(*urls: str) -> list[dict[str, Any]]:
    """A user's message with images."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}} for url in urls]}]


def read_back(value: object) -> Any:  # noqa: ANN401 - any JSON
    """A value as the engine has it, which parses what we send."""
    return json.loads(orjson.dumps(value))


def in_bytes(text: str) -> int:
    """The most bytes that a tokenizer may see of a text: normalized or not."""
    return max(len(form.encode()) for form in (text, unicodedata.normalize("NFC", text)))


def names_in(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(names_in, value.values()))
    return sum(map(names_in, value)) if isinstance(value, list) else 0


letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
odd_letters = st.text(st.sampled_from('a"\\\n\x01\x7f\u0344\u0958\u2028é\U0001d15e'), max_size=12)
numbers = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e15, 1e16, -0.0, 1e-7, 5e-324, 123456789012345680.0])
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | letters | odd_letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(letters, json_values, max_size=4)

# --- the bound of a value that templates write -------------------------------------------------------------


def forms_of(value: object) -> list[str]:
    """How templates write JSON: at once, or on lines indented by four."""
    engine = read_back(value)
    return [
        json.dumps(engine, ensure_ascii=False),
        json.dumps(engine, ensure_ascii=False, indent=4),
        json.dumps(engine, ensure_ascii=False, separators=(",", ":")),
    ]


@steady
@given(value=json_values)
@example(value=[[1, 2], {"a": {"b": [{}, []]}}])
@example(value=[1e15] * 20)
@example(value=["\u0958" * 9])
def test_no_way_to_write_a_value_takes_more_bytes_than_its_bound(value: object) -> None:
    bound = rendered_bound_tokens(value)

    assert all(in_bytes(form) <= bound for form in forms_of(value))


@steady
@given(value=json_values, depth=st.integers(0, 100))
def test_a_value_nested_in_lists_is_bounded_with_all_its_lines_indented(value: object, depth: int) -> None:
    for _ in range(depth):
        value = [value, value] if depth < 4 else [value, 1]

    try:
        bound = rendered_bound_tokens(value)
    except ValueError:
        pytest.fail("this is no deep nesting")

    assert all(in_bytes(form) <= bound for form in forms_of(value))


@steady
@given(value=objects)
def test_each_name_of_a_value_counts_what_xml_puts_around_it_beside_the_text(value: dict[str, Any]) -> None:
    text = in_bytes(json.dumps(read_back(value), ensure_ascii=False))

    assert rendered_bound_tokens(value) >= text + names_in(read_back(value)) * TOKENS_PER_KEY


@steady
@given(
    tools=st.lists(objects, min_size=1, max_size=3), schema=objects, messages=st.lists(letters, min_size=1)
)
def test_a_prompt_with_tools_and_a_schema_is_below_its_bound(
    tools: list[dict[str, Any]], schema: dict[str, Any], messages: list[str]
) -> None:
    sent = [{"role": "user", "content": text} for text in messages]
    written = [json.dumps(read_back(value), ensure_ascii=False, indent=4) for value in (*tools, schema)]
    chat = chat_of(sent, tools=tools, response_format=schema)

    prompt = sum(map(in_bytes, [*messages, *written]))
    assert prompt + 16 * len(messages) + 256 + TOKENS_FOR_TOOLS <= chat.prompt_tokens


@pytest.mark.parametrize("field", ["tools", "tool_choice", "response_format", "chat_template_kwargs"])
def test_what_templates_write_is_counted_and_all_else_is_not(field: str) -> None:
    value = {"a": "x" * 1000}

    more = ChatRequest.of(HELLO, {field: value}, 10).prompt_tokens - HELLO_TOKENS
    assert more == rendered_bound_tokens(value) + (TOKENS_FOR_TOOLS if field == "tools" else 0)
    assert chat_of(stop=["x" * 1000], temperature=0.5).prompt_tokens == HELLO_TOKENS


# --- calls of tools ----------------------------------------------------------------------------------------


@steady
@given(arguments=objects, indent=st.sampled_from([None, 0, 1]), extra=json_values)
def test_a_call_of_a_tool_is_bounded_with_its_arguments_written_anew(
    arguments: dict[str, Any], indent: int | None, extra: object
) -> None:
    messages = calling(json.dumps(arguments, ensure_ascii=False, indent=indent), extra=extra)
    (call,) = read_back(messages)[0]["tool_calls"]
    call["function"]["arguments"] = json.loads(call["function"]["arguments"])

    bound = chat_of(messages).prompt_tokens - 16 - 256
    for one_line in (None, 4):
        assert in_bytes(json.dumps(call, ensure_ascii=False, indent=one_line)) <= bound


def test_the_arguments_of_a_call_count_as_the_numbers_that_they_become() -> None:
    arguments = "[" + ",".join(["1e15"] * 1000) + "]"

    assert chat_of(calling(arguments)).prompt_tokens >= 1000 * len("    1000000000000000.0,\n")


@pytest.mark.parametrize("arguments", ["", "{", "{'a': 1}", "x" * 1000, '{"a":1}}', "\ufeff{}", "[1,]"])
def test_arguments_that_are_no_json_to_anybody_count_as_text(arguments: str) -> None:
    assert chat_of(calling(arguments)).prompt_tokens >= 2 * len(arguments.encode()) + 16 + 256


@pytest.mark.parametrize(
    "arguments",
    ['{"a": NaN}', "[Infinity]", "[-Infinity]", "[1e999]", '["\\ud800"]', "[" * 1100 + "]" * 1100],
    ids=["nan", "infinity", "minus_infinity", "1e999", "surrogate", "deep"],
)
def test_arguments_that_are_json_to_engines_alone_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        chat_of(calling(arguments))

    (problem,) = refused.value.problems
    assert problem.loc == ["body", "messages"]
    assert "NaN" in problem.msg


# --- images ------------------------------------------------------------------------------------------------

REMOTE = "https://example.test/a.png"
INLINE = "data:image/png;base64," + "A" * 20_000


@pytest.mark.parametrize("url", [REMOTE, INLINE, "https://example.test/" + "é" * 20_000])
@pytest.mark.parametrize("images", [1, 3])
def test_an_image_counts_the_most_tokens_of_one_and_at_least_its_bytes(url: str, images: int) -> None:
    bound = chat_of(showing(*[url] * images)).prompt_tokens

    assert bound >= images * max(MAX_IMAGE_TOKENS, len(url.encode())) + 16 + 256
    assert bound <= images * (max(MAX_IMAGE_TOKENS, len(url.encode())) + 100) + 500


def test_the_most_tokens_of_an_image_are_those_of_the_largest_one_that_is_read_whole() -> None:
    assert MAX_IMAGE_TOKENS == 12_845_056 // (28 * 28)


def test_images_and_texts_add_up() -> None:
    text = {"type": "text", "text": "x" * 500}
    message = showing(REMOTE, INLINE)[0]
    message["content"].append(text)

    assert chat_of([message]).prompt_tokens >= MAX_IMAGE_TOKENS + 20_000 + 500


# --- nesting -----------------------------------------------------------------------------------------------


def nested(depth: int, *, lists: bool) -> Any:  # noqa: ANN401 - any JSON
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 253, 254, 255, 256, 990, 1023, 1100])
@pytest.mark.parametrize(
    "place", ["tools", "tool_choice", "response_format", "chat_template_kwargs", "messages", "arguments"]
)
def test_what_is_nested_too_deeply_is_refused_by_name(place: str, depth: int, *, lists: bool) -> None:
    value = nested(depth, lists=lists)
    text = "[" * depth + "]" * depth if lists else '{"a":' * depth + "1" + "}" * depth
    messages = {"messages": calling("{}", extra=value), "arguments": calling(text)}.get(place, HELLO)
    fields = {} if place in {"messages", "arguments"} else {place: value}

    with pytest.raises(InvalidRequestError) as refused:
        chat_of(messages, **fields)

    (problem,) = refused.value.problems
    assert problem.loc == ["body", "messages" if place == "arguments" else place]
    assert "nested too deeply" in problem.msg


@pytest.mark.parametrize("depth", [1, 100, MAX_DEPTH - 4])
@pytest.mark.parametrize("lists", [True, False])
def test_what_is_accepted_can_be_sent(depth: int, *, lists: bool) -> None:
    value = nested(depth, lists=lists)
    chat = chat_of(
        calling(json.dumps(value), extra=value), tools=[value], tool_choice=value, response_format=value
    )

    sent = orjson.loads(upstream_body(chat, "m", 10, stream=True))

    assert (sent["tools"], sent["response_format"]) == ([value], value)
    assert sent["messages"][0]["tool_calls"][0]["extra"] == value


def test_a_wide_value_at_the_greatest_depth_is_counted_without_being_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value: Any = [1] * 100_000
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    written: list[int] = []
    dumps = orjson.dumps

    def noting(*args: Any, **kwargs: Any) -> bytes:  # noqa: ANN401 - passed on as they come
        written.append(len(dumps(*args, **kwargs)))
        return dumps(*args, **kwargs)

    monkeypatch.setattr("ridges_proxy.billing.rendered_bounds.orjson.dumps", noting)
    assert rendered_bound_tokens(value) > 100_000 * MAX_DEPTH * 4
    assert max(written) < 300_000


# --- what goes upstream ------------------------------------------------------------------------------------


def test_a_stream_is_asked_for_with_its_usage() -> None:
    body = upstream_body(chat_of(temperature=0.5, seed=None), "m", 7, stream=True)

    assert body == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"seed":null,'
        b'"stream":true,"max_tokens":7,"stream_options":{"include_usage":true}}'
    )


def test_a_whole_answer_is_asked_for_without_options_of_a_stream() -> None:
    body = upstream_body(chat_of(), "m", 7, stream=False)

    assert body == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false,"max_tokens":7}'
    )


@pytest.mark.parametrize(("choices", "sent"), [(1, None), (2, 2), (128, 128)])
def test_several_choices_are_asked_for_and_one_is_not_named(choices: int, sent: int | None) -> None:
    chat = ChatRequest.of(HELLO, {}, 10, choices=choices)

    assert orjson.loads(upstream_body(chat, "m", 7, stream=True)).get("n") == sent
    assert chat.prompt_tokens == HELLO_TOKENS, "once: the terms multiply it"


def test_no_field_takes_the_place_of_what_the_hold_pays_for() -> None:
    fields = {"stream": False, "max_tokens": 10**6, "stream_options": None, "n": 9}
    chat = ChatRequest.of(HELLO, fields, 10, choices=2)

    sent = orjson.loads(upstream_body(chat, "m", 7, stream=True))

    assert (sent["stream"], sent["max_tokens"], sent["n"]) == (True, 7, 2)
    assert sent["stream_options"] == {"include_usage": True}


@steady
@given(content=letters | odd_letters)
def test_the_messages_that_are_sent_are_those_that_were_counted(content: str) -> None:
    messages = [{"role": "user", "content": content}]
    chat = chat_of(messages)

    assert chat.messages in upstream_body(chat, "m", 7, stream=True)
    assert orjson.loads(chat.messages) == messages
    assert chat.prompt_tokens >= len(chat.messages) + 16 + 256
