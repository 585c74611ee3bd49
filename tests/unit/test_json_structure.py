"""The marks of a JSON text are those of its structure, whatever its strings contain."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.runtime import json_structure
from ridges_proxy.runtime.json_structure import MAX_MARKS, PIECE_BYTES, marks, outside_strings
from tests.support.table import check_rows

SOURCE = 'def f(a: list[int], b: dict) -> {}: return ["\\\\", b[a], {"k": [1, 2]}]\n'


def messages(*contents: object) -> list[object]:
    return [{"role": "user", "content": content} for content in contents]


def tool(parameters: int) -> object:
    properties = {
        f"p{n}": {"type": "string", "description": SOURCE, "enum": ["a", "b"]} for n in range(parameters)
    }
    return {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}


def steps(count: int) -> list[object]:
    """Steps of an agent: three calls with a file each, and their results."""
    arguments = json.dumps({"path": "a.py", "content": SOURCE * 2})
    calls = [
        {"id": f"{n}", "type": "function", "function": {"name": "f", "arguments": arguments}}
        for n in range(3)
    ]
    step = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": f"{n}", "content": SOURCE} for n in range(3)),
    ]
    return step * count


ACCEPTED: dict[str, object] = {
    "2 MiB of code in one message": {"messages": messages(SOURCE * (2 * 1024 * 1024 // len(SOURCE)))},
    "200 messages with code": {"messages": messages(*[SOURCE * 50] * 200)},
    "300 steps with three calls each": {"messages": steps(300)},
    "128 tools with 20 parameters each": {"messages": messages("x"), "tools": [tool(20)] * 128},
    "10,000 messages": {"messages": messages(*"x" * 10_000)},
    "2,048 embedding inputs": {"input": [SOURCE] * 2048},
    "strings that end in escapes": {"messages": messages(*['\\"', '\\\\"', '"\\'] * 500)},
}

REFUSED: dict[str, bytes] = {
    "empty lists": b"[" + b"[]," * MAX_MARKS + b"0]",
    "keys": b"{" + b'"k":0,' * MAX_MARKS + b"}",
    "numbers": b"[" + b"0," * MAX_MARKS + b"0]",
    "open lists": b"[" * (MAX_MARKS + 1),
    "lists behind a text of code": json.dumps([SOURCE * 9_000]).encode() + b"[]," * MAX_MARKS + b"[]",
    "a quote without its end is no string": b'"' + b"[" * 10 + b'"' + b"[" * (MAX_MARKS + 1),
}


def test_bodies_of_agents_are_far_from_the_limit() -> None:
    def check(name: str) -> None:
        assert marks(json.dumps(ACCEPTED[name], separators=(",", ":")).encode()) <= MAX_MARKS
        assert marks(json.dumps(ACCEPTED[name], indent=2).encode()) <= MAX_MARKS

    check_rows(ACCEPTED, check)


def test_a_body_with_too_many_values_is_above_the_limit() -> None:
    def check(name: str) -> None:
        assert marks(REFUSED[name]) > MAX_MARKS

    check_rows(REFUSED, check)


def test_the_search_ends_when_the_limit_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    all_marks = json_structure.all_marks

    def counted(text: bytes) -> int:
        searched.append(len(text))
        return all_marks(text)

    monkeypatch.setattr(json_structure, "all_marks", counted)
    marks(b"[]," * (1 << 20))
    assert sum(searched[1:]) <= 3 * MAX_MARKS + 2 * PIECE_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab[]{},:"\\\n\u00e9'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab[{,:"\\'), inner),
)


def expected(value: object) -> int:
    """The lists, objects, commas and colons of a JSON value."""
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(map(expected, value.values()))
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(expected, value))
    return 0


@given(JSON, st.integers(1, 9), st.booleans())
def test_marks_are_those_of_the_parsed_value(value: object, piece_bytes: int, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_structure, "PIECE_BYTES", piece_bytes)
        assert json_structure.all_marks(b"".join(outside_strings(text))) == expected(value)
