from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing import bounds
from ridges_proxy.billing.bounds import (
    TOKENS_PER_CALL,
    TOKENS_PER_MESSAGE,
    least_text_bytes,
    name_bound_tokens,
    text_bound_bytes,
)
from tests.support.table import check_rows


def test_an_ascii_text_counts_its_bytes() -> None:
    assert (TOKENS_PER_MESSAGE, TOKENS_PER_CALL) == (16, 256)
    assert text_bound_bytes(b"") == 0
    assert text_bound_bytes(b"x" * 1000) == 1000


def test_the_larger_of_a_prompt_and_its_normalized_form_counts() -> None:
    grows = "\U0001d15e."  # a musical note of 4 bytes that becomes 8, and a dot
    shrinks = "e\u0301"  # 3 bytes that become 2

    assert text_bound_bytes((grows * 100).encode()) == 900
    assert text_bound_bytes((shrinks * 100).encode()) == 300


def test_the_least_bytes_of_a_text_are_those_of_its_smaller_form_and_none_for_marks() -> None:
    def check(row: tuple[str, int]) -> None:
        text, expected = row
        assert least_text_bytes(text.encode()) == expected

    check_rows(
        [
            ("", 0),
            ("x" * 100, 100),
            ("e\u0301" * 10, 20),
            ("\u00e9" * 10, 20),
            ("\U0001d15e" * 10, 40),
            ("a" + "\u0301" * 31 + "b", 2 + 30 * 2 + 1),
            ("a" + "\u0301" * 33 + "b", 0),
        ],
        check,
    )


def test_a_name_counts_its_escapes_in_an_attribute() -> None:
    def check(row: tuple[str, int]) -> None:
        name, expected = row
        assert name_bound_tokens(name) == expected

    check_rows([("", 0), ("read", 4), ("&<>\"'", 5 + 25), ("a&b", 3 + 5), ("\u00e9", 2), ("-_.;", 4)], check)


MARKS = ["\u0301", "\u0316", "\u0344", "\u0338", "\u0f73", "\U0001d15e", "\U0001d16e"]
"""Combining marks: above, below, one that becomes two, an overlay, one that splits, a note and its flag."""


def test_every_combining_mark_is_recognized() -> None:
    marks = [chr(code) for code in range(sys.maxunicode) if unicodedata.combining(chr(code))]

    assert [mark for mark in marks if not bounds._MARKS.fullmatch(mark * 32)] == []


@given(
    parts=st.lists(
        st.tuples(st.sampled_from("a\u01d6\u1f82\uac00\u2260"), st.lists(st.sampled_from(MARKS), max_size=4))
    ),
    times=st.sampled_from([1, 8, 32]),
)
def test_combining_marks_count_at_least_their_bytes_in_either_form(
    parts: list[tuple[str, list[str]]], times: int
) -> None:
    text = "".join(letter + "".join(marks) * times for letter, marks in parts)

    for form in (text, unicodedata.normalize("NFC", text)):
        assert text_bound_bytes(text.encode()) >= len(form.encode())


def test_a_body_of_unsorted_combining_marks_is_counted_without_normalizing_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    normalized: list[str] = []

    def normalize(_form: str, text: str) -> str:
        normalized.append(text)
        return text

    monkeypatch.setattr("ridges_proxy.billing.bounds.unicodedata.normalize", normalize)
    marks = "\u0301" * 1_000_000 + "\u0316" * 1_000_000

    assert text_bound_bytes(f"a{marks}b".encode()) >= 3 * 4_000_000
    assert len("".join(normalized)) < 10


def test_box_drawing_counts_its_bytes() -> None:
    assert text_bound_bytes(("\u2500" * 200 + "\n\u2502").encode()) == 604


@given(sent=st.text(), more=st.text())
def test_the_bound_covers_each_byte_in_either_form(sent: str, more: str) -> None:
    bound = text_bound_bytes((sent + more).encode("utf-8", "replace"))

    for form in (sent, unicodedata.normalize("NFC", sent)):
        assert bound >= len(form.encode("utf-8", "replace"))


def test_nfc_never_joins_a_letter_to_the_character_before_it() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    decompositions = (unicodedata.normalize("NFD", each) for each in every)
    joined = {decomposed[1:][:1] for decomposed in decompositions if len(decomposed) > 1}
    joined |= {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    letters = [each for each in every if bounds._LETTER.match(each)]
    for letter in letters:
        first = unicodedata.normalize("NFD", letter)[0]
        assert not unicodedata.combining(first), letter
        assert first not in joined, letter
    assert len(letters) > 100_000


@given(st.text("aé汉\u0301\u0316\u0345\u1112\u1161\u11ab가\u212b\U0001d160─", max_size=60))
def test_the_bound_of_pieces_is_that_of_the_whole_text(text: str) -> None:
    whole = text_bound_bytes(text.encode()), bounds.least_text_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "PIECE_CHARACTERS", 3)
        patch.setattr(bounds, "MAX_PIECE_CHARACTERS", 9)
        most, least = text_bound_bytes(text.encode()), bounds.least_text_bytes(text.encode())
        longest = max(map(len, bounds._pieces(text)))
    assert most >= whole[0]
    assert least <= whole[1]
    if longest <= 9:
        assert (most, least) == whole
