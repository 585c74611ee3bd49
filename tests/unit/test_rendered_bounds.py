"""A value that a template renders takes at most its bound, in every format that templates use."""

from __future__ import annotations

import itertools
import json
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.billing import call_arguments
from ridges_proxy.billing.call_arguments import TOKENS_PER_KEY
from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.rendered_bounds import (
    MAX_DEPTH,
    MAX_IMAGE_TOKENS,
    TOKENS_FOR_TOOLS,
    message_bound_tokens,
    python_escape_bytes,
    rendered_bound_tokens,
)
from tests.support.chat import HELLO, HELLO_TOKENS, chat_of, tool_call_messages
from tests.support.table import check_rows


def image_messages(*urls: str) -> list[dict[str, Any]]:
    """Return a user's message with images."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}} for url in urls]}]


def parsed_by_engine(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return the value as the inference engine parses it from the request."""
    return json.loads(orjson.dumps(value))


def max_bytes(text: str) -> int:
    """Return the maximum bytes of a text that a tokenizer may see, normalized or not."""
    return max(len(form.encode()) for form in (text, unicodedata.normalize("NFC", text)))


def key_count(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(key_count, value.values()))
    return sum(map(key_count, value)) if isinstance(value, list) else 0


letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
special_letters = st.text(st.sampled_from('a"\\\n\x01\x7f\u0344\u0958\u2028é\U0001d15e'), max_size=8)
numbers = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e15, 1e16, -0.0, 1e-7, 5e-324, 123456789012345680.0])
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | letters | special_letters,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(letters, json_values, max_size=3)

# --- any value ---------------------------------------------------------------------------------------------


def rendered_forms(value: object) -> list[str]:
    """Return the value in the formats of templates: on one line, indented by four, and compact."""
    parsed = parsed_by_engine(value)
    return [
        json.dumps(parsed, ensure_ascii=False),
        json.dumps(parsed, ensure_ascii=False, indent=4),
        json.dumps(parsed, ensure_ascii=False, separators=(",", ":")),
    ]


@given(value=json_values)
@example(value=[[1, 2], {"a": {"b": [{}, []]}}])
@example(value=[1e15] * 20)
@example(value=["\u0958" * 9])
def test_no_rendered_form_of_a_value_exceeds_its_bound(value: object) -> None:
    bound = rendered_bound_tokens(value)

    assert all(max_bytes(form) <= bound for form in rendered_forms(value))


@given(value=json_values, depth=st.integers(0, 100))
def test_the_bound_of_a_deeply_nested_value_covers_the_indentation(value: object, depth: int) -> None:
    for _ in range(depth):
        value = [value, value] if depth < 4 else [value, 1]

    try:
        bound = rendered_bound_tokens(value)
    except ValueError:
        pytest.fail("this depth is allowed")

    assert all(max_bytes(form) <= bound for form in rendered_forms(value))


@given(value=objects)
def test_the_bound_includes_the_allowance_for_each_key(value: dict[str, Any]) -> None:
    text = max_bytes(json.dumps(parsed_by_engine(value), ensure_ascii=False))

    assert rendered_bound_tokens(value) >= text + key_count(parsed_by_engine(value)) * TOKENS_PER_KEY


@given(
    tools=st.lists(objects, min_size=1, max_size=2),
    schema=objects,
    messages=st.lists(letters, min_size=1, max_size=4),
)
def test_a_prompt_with_tools_and_a_schema_stays_within_its_bound(
    tools: list[dict[str, Any]], schema: dict[str, Any], messages: list[str]
) -> None:
    sent = [{"role": "user", "content": text} for text in messages]
    rendered = [
        json.dumps(parsed_by_engine(value), ensure_ascii=False, indent=4) for value in (*tools, schema)
    ]
    chat = chat_of(sent, tools=tools, response_format=schema)

    prompt = sum(map(max_bytes, [*messages, *rendered]))
    assert prompt + 16 * len(messages) + 256 + TOKENS_FOR_TOOLS <= chat.prompt_tokens


def test_exactly_the_fields_that_templates_render_are_counted() -> None:
    value = {"a": "x" * 1000}

    def check(field: str) -> None:
        added = ChatRequest.of(HELLO, {field: value}, 10).prompt_tokens - HELLO_TOKENS
        assert added == rendered_bound_tokens(value) + (TOKENS_FOR_TOOLS if field == "tools" else 0)

    check_rows(["tools", "tool_choice", "response_format", "chat_template_kwargs"], check)
    assert chat_of(stop=["x" * 1000], temperature=0.5).prompt_tokens == HELLO_TOKENS


def test_a_wide_value_at_the_maximum_depth_is_counted_without_writing_the_indented_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value: Any = [1] * 100_000
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    sizes: list[int] = []
    dumps = orjson.dumps

    def recording(*args: Any, **kwargs: Any) -> bytes:  # noqa: ANN401 - orjson's arguments, unchanged
        sizes.append(len(dumps(*args, **kwargs)))
        return dumps(*args, **kwargs)

    monkeypatch.setattr("ridges_proxy.billing.rendered_bounds.orjson.dumps", recording)
    assert rendered_bound_tokens(value) > 100_000 * MAX_DEPTH * 4
    assert max(sizes) < 300_000


# --- tool calls --------------------------------------------------------------------------------------------


@given(
    arguments=objects,
    indent=st.sampled_from([None, 0, 1]),
    extra=json_values,
    max_marks=st.sampled_from([0, 99]),
)
def test_the_bound_of_a_tool_call_covers_its_arguments_rendered_as_json(
    arguments: dict[str, Any], indent: int | None, extra: object, max_marks: int
) -> None:
    """Also if the history has too many values to be parsed."""
    messages = tool_call_messages(json.dumps(arguments, ensure_ascii=False, indent=indent), extra=extra)
    (call,) = parsed_by_engine(messages)[0]["tool_calls"]
    call["function"]["arguments"] = json.loads(call["function"]["arguments"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call_arguments, "MAX_MARKS", max_marks)
        bound = chat_of(messages).prompt_tokens - 16 - 256
    for rendered_indent in (None, 4):
        assert max_bytes(json.dumps(call, ensure_ascii=False, indent=rendered_indent)) <= bound


def test_numbers_in_the_arguments_of_a_tool_call_count_in_pythons_form() -> None:
    arguments = "[" + ",".join(["1e15"] * 1000) + "]"

    assert chat_of(tool_call_messages(arguments)).prompt_tokens >= 1000 * len("    1000000000000000.0,\n")


def test_arguments_that_no_engine_parses_as_json_count_as_text() -> None:
    def check(arguments: str) -> None:
        bound = chat_of(tool_call_messages(arguments)).prompt_tokens
        assert bound >= len(json.dumps(arguments, ensure_ascii=False).encode()) + 16 + 256

    check_rows(["", "{", "{'a': 1}", "x" * 1000, '{"a":1}}', "\ufeff{}", "[1,]"], check)


def test_a_tool_call_counts_once_in_its_longest_form() -> None:
    arguments = json.dumps({"path": "a.py", "text": "x = 1\n" * 500})
    sent = len(orjson.dumps(tool_call_messages(arguments)))

    assert sent < chat_of(tool_call_messages(arguments)).prompt_tokens < sent + 700


def test_characters_that_python_escapes_count_in_the_escaped_form() -> None:
    escaped = json.dumps({"a": "\x7f" * 1000}, ensure_ascii=False)
    parts = [{"type": "text", "text": "\x7f" * 1000}]

    assert chat_of(tool_call_messages(escaped)).prompt_tokens >= 1000 * len(r"\x7f")
    assert chat_of([{"role": "tool", "content": parts}]).prompt_tokens >= 1000 * len(r"\x7f")


@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\"\\\x7f\b\f\n\xa0é")))
def test_a_tools_result_counts_in_each_form(text: str) -> None:
    part = {"type": "text", "text": text}
    forms = (text, repr(part), json.dumps(part, ensure_ascii=False))

    assert chat_of([{"role": "tool", "content": text}]).prompt_tokens >= 256 + max(map(max_bytes, forms))


def test_the_bytes_that_only_pythons_form_adds_are_counted() -> None:
    """Python chooses the quotes around a text by those inside it, and escapes what is not printable."""

    def check(row: tuple[str, int]) -> None:
        text, added_bytes = row
        assert python_escape_bytes(text) == added_bytes
        for end in ("", "é"):
            python, as_json = repr(text + end), json.dumps(text + end, ensure_ascii=False)
            assert python_escape_bytes(text + end) >= len(python.encode()) - len(as_json.encode())

    check_rows(
        [
            ("", 0),
            ("it's", 0),
            ('"', 0),
            ("'\"", 0),
            ("'''\"", 2),
            ('\'"""', 0),
            ("\x7f", 3),
            ("\b", 2),
            ("\f", 2),
            ("\b\f\x7f'''\"", 9),
            ("\n\\", 0),
            ("é", 0),
            ("\u200b", 3),
        ],
        check,
    )


def test_a_text_counts_as_sent_and_in_the_longer_of_two_forms() -> None:
    def check(row: tuple[str, int, int]) -> None:
        character, sent_bytes, longer_bytes = row
        least = 1_000 * (sent_bytes + longer_bytes)
        assert least <= rendered_bound_tokens([character * 1_000]) < least + 100

    check_rows([("x", 1, 1), ('"', 2, 2), ("\\", 2, 2), ("é", 2, 2), ("\x7f", 1, 4), ("\x01", 6, 6)], check)


def test_spaces_that_a_parser_drops_from_arguments_count_as_sent_only() -> None:
    (message,) = tool_call_messages("{" + " " * 1_000 + "}")
    sent = orjson.dumps(message)

    assert message_bound_tokens(message, sent, parse=True) == len(sent) + 1 + 16


# --- names -------------------------------------------------------------------------------------------------


def test_the_name_of_a_parameter_counts_three_times() -> None:
    name = "n" * 8000
    parameters = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}

    assert rendered_bound_tokens([tool]) >= 3 * len(name) + 2 * len(name)


def test_names_and_types_count_three_times_and_other_texts_twice() -> None:
    def check(row: tuple[object, int]) -> None:
        value, times = row
        assert times * 1000 <= rendered_bound_tokens(value) < times * 1000 + 200

    long = "x" * 1000
    rows = [({long: 1}, 3), ({"name": long}, 3), ({"type": long}, 3), ({"enum": [long]}, 2), ([long], 2)]
    check_rows([*rows, ({"description": f'"{long[:-4]}":'}, 2), ({"name": ["a", {long: '"'}]}, 3)], check)


def test_names_count_with_their_xml_escapes() -> None:
    def check(character: str) -> None:
        arguments = json.dumps({character * 1000: 1}, ensure_ascii=False)
        assert chat_of(tool_call_messages(arguments)).prompt_tokens >= 1000 * len("&quot;")
        named = {"role": "user", "content": "", "name": character * 64}
        assert chat_of([named]).prompt_tokens >= 64 * len("&quot;") + 16 + 256

    check_rows("&<>\"'", check)


# --- images ------------------------------------------------------------------------------------------------

REMOTE = "https://example.test/a.png"
INLINE = "data:image/png;base64," + "A" * 20_000


def test_an_image_counts_the_maximum_tokens_of_an_image_or_its_bytes_if_that_is_more() -> None:
    def check(row: tuple[str, int]) -> None:
        url, images = row
        bound = chat_of(image_messages(*[url] * images)).prompt_tokens
        assert bound >= images * max(MAX_IMAGE_TOKENS, len(url.encode())) + 16 + 256
        assert bound <= images * (max(MAX_IMAGE_TOKENS, len(url.encode())) + 100) + 500

    urls = [REMOTE, INLINE, "https://example.test/" + "é" * 20_000]
    check_rows(itertools.product(urls, [1, 3]), check)


def test_the_maximum_tokens_of_an_image_are_those_of_the_largest_unscaled_image() -> None:
    assert MAX_IMAGE_TOKENS == 12_845_056 // (28 * 28)


def test_images_and_texts_add_up() -> None:
    """The message's bytes, 16 tokens for it and for each part, what Python's form of the texts is longer, and
    what the bytes of an image's URL lack."""

    def check(texts: list[dict[str, str]]) -> None:
        message = image_messages(REMOTE, INLINE)[0]
        message["content"] += texts
        sent = orjson.dumps(message)
        longer_bytes = len(repr(texts)) - len(orjson.dumps(texts))
        tokens = 16 + 16 * (2 + len(texts)) + longer_bytes + MAX_IMAGE_TOKENS - len(REMOTE)
        assert message_bound_tokens(message, sent, parse=True) == len(sent) + 1 + tokens

    text = {"type": "text", "text": "x\x7f" * 500}
    check_rows([[], [text], [text, text]], check)
