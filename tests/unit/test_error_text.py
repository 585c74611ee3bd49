"""The text of an upstream's error response: on one line, cut short, and without the proxy's key."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.error_text import MAX_BYTES, MAX_CHARACTERS, read_error_names, read_error_text
from tests.support.table import check_rows

SECRET = "cpk_the-key-that-pays"


def error_text(value: object) -> str:
    return read_error_text(json.dumps(value).encode(), SECRET)


def test_the_text_is_found_where_upstreams_put_it() -> None:
    rows: list[tuple[object, str]] = [
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
        ({"detail": {"detail": {"detail": {"detail": "deep"}}}}, "deep"),
        ({"detail": {"detail": {"detail": {"detail": {"detail": "deep"}}}}}, ""),
        ([[[["deep"]]]], "deep"),
        ([[[[["deep"]]]]], ""),
    ]

    def check(row: tuple[object, str]) -> None:
        body, expected = row
        assert error_text(body) == expected

    check_rows(rows, check)


def test_a_body_that_is_not_json_has_no_text() -> None:
    def check(body: bytes) -> None:
        assert read_error_text(body, SECRET) == ""

    check_rows([b"", b"<html>", b"{", b"[" * 2000, b'{"detail": "\xff"}'], check)


def test_a_body_that_is_too_large_for_an_error_has_no_text_and_no_names() -> None:
    def check(row: tuple[int, str, str | None]) -> None:
        size_bytes, text, code = row
        head, tail = b'{"detail": "No", "code": "no"', b"}"
        body = head + b" " * (size_bytes - len(head + tail)) + tail
        assert (read_error_text(body, SECRET), read_error_names(body, SECRET).code) == (text, code)

    check_rows([(MAX_BYTES, "No", "no"), (MAX_BYTES + 1, "", None)], check)


def test_the_code_and_the_field_are_found_where_upstreams_name_them() -> None:
    rows: list[tuple[object, str | None, str | None]] = [
        ({"error": {"code": "too_long", "param": "messages"}}, "too_long", "messages"),
        ({"detail": {"code": "too_long", "param": "messages"}}, "too_long", "messages"),
        ({"code": "too_long", "param": "messages"}, "too_long", "messages"),
        ({"error": {"code": 400, "param": None}, "code": "too_long", "param": "n"}, "too_long", "n"),
        ({"error": {"code": "two words", "param": "two words"}}, None, None),
        ({"error": {"code": f"a{SECRET}", "param": f"a{SECRET}"}}, None, None),
        ({"error": {"param": "inputs"}}, None, "input"),
        (
            {"detail": [{"loc": ["body", "messages", 0, "content"]}, {"loc": ["x"]}]},
            None,
            "messages[0].content",
        ),
        ({"detail": [{"loc": ["body", "inputs"]}]}, None, "input"),
        ({"detail": [{"loc": ["max_tokens"]}]}, None, "max_tokens"),
        ({"detail": [{"loc": ["messages", "body."]}]}, None, "messages.body."),
        ({"detail": [{"loc": ["body", 0]}]}, None, None),
        ({"detail": [{"loc": "body"}]}, None, None),
        ({"detail": [{}]}, None, None),
        ({"detail": ["x"]}, None, None),
        ({"detail": []}, None, None),
        ([{"code": "too_long"}], None, None),
    ]

    def check(row: tuple[object, str | None, str | None]) -> None:
        body, code, param = row
        assert read_error_names(json.dumps(body).encode(), SECRET) == (code, param)

    check_rows(rows, check)
    assert read_error_names(b"{", SECRET) == (None, None)
    assert read_error_names(b'{"code": "too_long"}', "") == ("too_long", None), "there is no key"


def test_a_text_that_contains_the_key_is_not_shown_at_all() -> None:
    rows = {
        "alone": SECRET,
        "in a text": f"Invalid token {SECRET}.",
        "where the text is cut": "x" * 490 + SECRET,
        "after the cut": "x" * 600 + SECRET,
        "with zero-width spaces": "\u200b".join(SECRET),
        "with NUL characters": "\x00".join(SECRET),
    }

    def check(row: tuple[str, str]) -> None:
        assert error_text({"detail": row[1]}) == ""

    check_rows(rows.items(), check)


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from([SECRET, SECRET[:9], SECRET[9:]]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["detail", "error", "message", "msg", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(value=json_values)
def test_the_text_of_any_json_is_one_short_printable_line_without_the_key(value: object) -> None:
    text = error_text(value)

    assert len(text) <= MAX_CHARACTERS
    assert text.isprintable()
    assert SECRET not in text
