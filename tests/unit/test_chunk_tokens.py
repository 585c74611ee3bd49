"""Upper bounds of the tokens in one chunk of a streamed completion."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.runtime.json_structure import MAX_MARKS
from ridges_proxy.upstream.chunk_tokens import max_tokens_of, max_tokens_of_unread, text_bytes_of
from ridges_proxy.upstream.sse import Event
from tests.support.table import check_rows


def test_a_delta_counts_at_most_the_bytes_of_its_texts() -> None:
    rows: list[tuple[dict[str, Any], int]] = [
        ({}, 0),
        ({"role": "assistant"}, 0),
        ({"role": "assistant", "content": ""}, 1),
        ({"content": ""}, 1),
        ({"content": None}, 1),
        ({"content": 5}, 1),
        ({"content": "a"}, 1),
        ({"content": "hello"}, 5),
        ({"content": "é"}, 2),
        ({"content": "\U0001f600"}, 4),
        ({"content": "ab", "reasoning_content": "cde"}, 5),
        ({"reasoning": "abc"}, 3),
        # The same text under two names counts once.
        ({"reasoning": "дa", "reasoning_content": "дa"}, 3),
        ({"content": "x", "reasoning": "abc", "reasoning_content": "abc"}, 4),
        ({"reasoning": "abc", "reasoning_content": "abd"}, 6),
        ({"reasoning": None, "reasoning_content": "abc"}, 3),
        ({"reasoning": ["a"], "reasoning_content": ["a"]}, 2 * len('["a"]')),
        ({"refusal": None, "tool_calls": []}, 0),
        ({"content": ["ab"]}, len('["ab"]')),
        ({"content": "ab", "x": 5}, 2),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, 44),
    ]

    def check(row: tuple[dict[str, Any], int]) -> None:
        delta, max_tokens = row
        assert max_tokens_of(delta) == max_tokens

    check_rows(rows, check)


def test_the_text_of_a_message_counts_once_under_two_names() -> None:
    rows: list[tuple[dict[str, Any], int]] = [
        ({"role": "assistant", "content": "да", "reasoning": "abc", "reasoning_content": "abc"}, 4 + 3),
        ({"content": None, "reasoning": "abc", "reasoning_content": "abd"}, 6),
    ]

    def check(row: tuple[dict[str, Any], int]) -> None:
        message, size_bytes = row
        assert text_bytes_of(message) == size_bytes

    check_rows(rows, check)


def test_an_event_that_was_not_read_counts_its_texts_or_its_bytes() -> None:
    rows: list[tuple[bytes, int | None]] = [
        (b"[DONE]", 0),
        (b'{"error":"x"}', 0),
        (b'{"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"c"}},{"delta":null},{}]}', 3),
        (b'{"choices":[{"delta":{"content":"ab"}},{"delta":5}]}', None),
        (b'{"choices":[5]}', None),
        (b'{"choices":5}', None),
        (b"{", None),
        (b'{"x":[' + b"0," * MAX_MARKS + b"0]}", None),
    ]

    def check(row: tuple[bytes, int | None]) -> None:
        data, tokens = row
        if tokens is None:
            assert max_tokens_of_unread(Event(data)) >= len(data)
        else:
            assert max_tokens_of_unread(Event(data)) == tokens

    check_rows(rows, check)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def text_bytes_in(value: object) -> int:
    """The UTF-8 bytes of all strings in a value."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(map(text_bytes_in, value.values()))
    return sum(map(text_bytes_in, value)) if isinstance(value, list) else 0


@given(delta=st.dictionaries(st.sampled_from(["content", "tool_calls", "x"]), json_values))
def test_the_bound_covers_every_text_of_a_delta(delta: dict[str, Any]) -> None:
    assert max_tokens_of(delta) >= text_bytes_in(delta)
