"""The bound of a prompt against templates with the habits of the known ones, and a real tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest
from tests.support.chat_templates import TEMPLATES, parsed
from tests.support.tokenizers import deepseek, token_count

if TYPE_CHECKING:
    from tests.support.chat_templates import Message

# --- hostile requests --------------------------------------------------------------------------------------

characters = st.sampled_from(
    ["a", "word ", "\x7f", "\u2028", "\ue000", "é", "e\u0301", "\U0001f600", "中", '"']
)
bits = characters | st.sampled_from(
    ["\n", "\\", "&", "<", "'", "0", "1e15", "=", "\u0958", "\U0001d15e", "{"]
)
texts = st.builds(
    lambda parts, times: "".join(parts) * times, st.lists(bits, max_size=4), st.sampled_from([1, 1, 30])
)
called_names = st.builds(lambda text: (text or "f")[:64], texts)
function_names = st.text("abcXYZ019_-", min_size=1, max_size=64) | st.sampled_from(["x" * 64, "-_" * 32])
scalars = st.none() | st.booleans() | st.integers(-9, 10**18) | st.sampled_from([1e15, 0.5]) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
arguments = st.dictionaries(texts, values, max_size=4).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
specs = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer"]) | texts},
    optional={"description": texts, "enum": st.lists(texts, max_size=4), "default": values},
)


def tool_of(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    required = [name for name, spec in properties.items() if "default" not in spec]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def assistant(calls: list[tuple[str, str, str]], content: object) -> Message:
    written = [
        {"id": each, "type": "function", "function": {"name": name, "arguments": text}}
        for each, name, text in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": written}


tools = st.lists(
    st.builds(tool_of, function_names, texts, st.dictionaries(texts, specs, max_size=4)),
    min_size=1,
    max_size=2,
)
parts = st.lists(st.builds(lambda text: {"type": "text", "text": text}, texts), max_size=4)
contents = texts | parts
ids = st.sampled_from(["1", "call_abcdefghi"])
plain = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "developer"]), "content": contents},
    optional={"name": called_names},
)
calls = st.builds(
    assistant, st.lists(st.tuples(ids, called_names, arguments), min_size=1, max_size=3), contents
)
results = st.fixed_dictionaries(
    {"role": st.just("tool"), "tool_call_id": ids, "content": contents}, optional={"name": called_names}
)
messages = st.builds(
    lambda groups: [message for message, times in groups for _ in range(times)],
    st.lists(st.tuples(plain | calls | results, st.sampled_from([1, 1, 10])), min_size=1, max_size=6),
)
fields = st.fixed_dictionaries(
    {}, optional={"tools": tools, "response_format": st.dictionaries(texts, values, max_size=3)}
)


def excess(template: str, sent: list[Message], others: dict[str, Any]) -> int:
    """Return by how many tokens the rendered prompt is larger than its bound, by bytes or by a tokenizer."""
    bounds = [ChatRequest.of(sent, others, 16, counter=each).prompt_tokens for each in (None, deepseek())]
    received, received_others = json.loads(orjson.dumps([sent, others]))
    return token_count(TEMPLATES[template](parsed(received), received_others)) - min(bounds)


def leaks_of(sent: list[Message], others: dict[str, Any]) -> dict[str, int]:
    """Return the templates whose rendered prompt is larger than its bound, and by how many tokens."""
    found = {template: excess(template, sent, others) for template in TEMPLATES}
    return {template: tokens for template, tokens in found.items() if tokens > 0}


@given(template=st.sampled_from(list(TEMPLATES)), sent=messages, others=fields)
def test_no_rendered_prompt_exceeds_its_bound(
    template: str, sent: list[Message], others: dict[str, Any]
) -> None:
    assert excess(template, sent, others) <= 0


# --- known attacks -----------------------------------------------------------------------------------------

LOOK = tool_of("look", "Look it up. " * 300, {})
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "x"}


def call_of(given_arguments: dict[str, Any]) -> Message:
    return assistant([("1", "f", orjson.dumps(given_arguments).decode())], None)


NAME, ODD_NAME = "z-q0" * 16, "\x7f" * 64
RARE = "\U00013000" * 2000
"""A name of 8,000 bytes, in letters of which each is several tokens."""

LINES = "\r\n" * 4_000
NESTED: dict[str, Any] = {"type": "string", "description": LINES}
for _ in range(20):
    NESTED = {"type": "object", "properties": {"a": NESTED}}

DEEP: Any = ["a"] * 100
for _ in range(110):
    DEEP = [DEEP]

ATTACKS: dict[str, tuple[list[Message], dict[str, Any]]] = {
    "a long name, many results": ([assistant([("1", NAME, "{}")], None), *[RESULT] * 130], {}),
    "an odd name, many results": ([assistant([("1", ODD_NAME, "{}")], None), *[RESULT] * 130], {}),
    "a long parameter": ([RESULT], {"tools": [tool_of("f", "", {RARE: {"default": 1}})]}),
    "a long type": ([RESULT], {"tools": [tool_of("f", "", {"a": {"type": RARE}})]}),
    "many lines": (
        [RESULT],
        {"tools": [tool_of("f", LINES, {"a": {"type": "string", "description": LINES}})]},
    ),
    "many lines, nested": ([RESULT], {"tools": [tool_of("f", LINES, {"a": NESTED})]}),
    "deep lists in a tool": ([RESULT], {"tools": [tool_of("f", "", {"a": {"enum": DEEP}})]}),
    "equal user messages": ([{"role": "user", "content": "go"}] * 50, {"tools": [LOOK]}),
    "developer messages": ([{"role": "developer", "content": ""}] * 50, {"tools": [LOOK]}),
    "odd arguments": ([call_of({"a": ["\x7f" * 5000]})], {}),
    "odd keys": ([call_of({"&" * 6000: 1})], {}),
    "odd parts": ([{**RESULT, "content": [{"type": "text", "text": "\x7f" * 5000}]}], {}),
    "an odd result": ([{**RESULT, "content": "\x7f" * 5000}], {}),
    "lines in a result": ([{**RESULT, "content": "\n" * 5000}], {}),
    "lines in a result's part": ([{**RESULT, "content": [{"type": "text", "text": "\n" * 5000}]}], {}),
    "many parts": ([{**RESULT, "content": [{"type": "text", "text": ""}] * 500}], {}),
    "many arguments": ([call_of({chr(0x4E00 + number): 1 for number in range(2000)})], {}),
    "a list of short texts": ([call_of({"a": ["a"] * 5000})], {}),
    "a list of empty texts": ([call_of({"a": [""] * 5000})], {}),
    "images": ([{"role": "user", "content": [IMAGE] * 3}], {}),
}


def test_no_text_that_a_template_writes_again_leaks() -> None:
    leaks = {attack: found for attack, sent in ATTACKS.items() if (found := leaks_of(*sent))}

    assert leaks == {}
