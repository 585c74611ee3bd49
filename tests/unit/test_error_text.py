"""What of an upstream's refusal is shown: its words, on one line, and never our key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.upstream import read_error_text
from ridges_proxy.upstream.error_text import MAX_CHARACTERS

SECRET = "cpk_the-key-that-pays"


def words(value: object) -> str:
    return read_error_text(json.dumps(value).encode(), SECRET)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"detail": "too long"}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"error": {"message": "too long", "type": "x", "code": 400}}, "too long"),
        ({"detail": {"message": "too long", "code": 400}}, "too long"),
        ({"message": "too long", "object": "error"}, "too long"),
        ({"detail": [{"loc": ["body"], "msg": "one"}, {"msg": "two"}]}, "one; two"),
        ({"detail": "", "error": "second"}, "second"),
        ({"detail": "  a\n\n b\tc "}, "a b c"),
        ({"detail": "a\x00b\x1b[31m\u202ec\u200b"}, "ab[31mc"),
        ({"detail": "Größe"}, "Größe"),
        ("bare", "bare"),
        ({"detail": "x" * 10_000}, "x" * MAX_CHARACTERS),
        ({"code": 400}, ""),
        ({"detail": 5}, ""),
        ([], ""),
        (None, ""),
        ({"detail": {"detail": {"detail": {"detail": {"detail": "deep"}}}}}, ""),
    ],
)
def test_the_words_are_found_where_upstreams_put_them(body: object, expected: str) -> None:
    assert words(body) == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"[" * 2000, b'{"detail": "\xff"}'])
def test_what_is_no_json_has_no_words(body: bytes) -> None:
    assert read_error_text(body, SECRET) == ""


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"Invalid token {SECRET}.",
        "x" * 490 + SECRET,
        "x" * 600 + SECRET,
        "\u200b".join(SECRET),
        "\x00".join(SECRET),
    ],
    ids=["alone", "in_a_text", "at_the_cut", "behind_the_cut", "with_spaces_of_no_width", "with_zeros"],
)
def test_words_that_tell_the_key_are_not_shown_at_all(text: str) -> None:
    assert words({"detail": text}) == ""


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from([SECRET, SECRET[:9], SECRET[9:]]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["detail", "error", "message", "msg", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(value=json_values)
def test_whatever_json_comes_its_words_are_one_short_printable_line_without_the_key(value: object) -> None:
    found = words(value)

    assert len(found) <= MAX_CHARACTERS
    assert found.isprintable()
    assert SECRET not in found
