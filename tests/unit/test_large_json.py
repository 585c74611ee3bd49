"""Values of a large answer that are read in pieces, as the values that they are."""

from __future__ import annotations

import json
from contextlib import suppress
from json import JSONDecoder
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream import large_json
from ridges_proxy.upstream.large_json import FIRST_CHARACTERS, PIECE_CHARACTERS, parse_large_json
from tests.support.table import check_rows

ESCAPES = [r"\n", r"\\", r"\"", r"\/", r"\u0041", r"\ud83d", r"\ude00", r"\ud83d\ude00"]
INVALID = ["\\x", "\\u12", "\n", "\\"]

valid_pieces = st.sampled_from(["a", "é", "😀", "u1234", *ESCAPES])
bodies = st.lists(valid_pieces, max_size=40) | st.lists(valid_pieces | st.sampled_from(INVALID), max_size=40)


def value_of(text: str) -> object:
    """The value by Python's parser; None if it is invalid."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def large_value_of(text: str, piece_characters: int) -> object:
    """The same by the parser of large answers."""
    with patch.object(large_json, "PIECE_CHARACTERS", piece_characters), suppress(ValueError):
        return parse_large_json(text.encode())[1]
    return None


@given(pieces=bodies, piece_characters=st.integers(len(r'"\u0041"'), 20))
def test_a_string_may_be_cut_anywhere(pieces: list[str], piece_characters: int) -> None:
    text = '{{"{0}": ["{0}"]}}'.format("".join(pieces))
    assert large_value_of(text, piece_characters) == value_of(text)


def test_a_number_is_never_cut() -> None:
    def check(number: str) -> None:
        padding = "0," * PIECE_CHARACTERS
        text = f'[{padding}{number},{{"a":{number}}},{number}]'
        assert large_value_of(text, PIECE_CHARACTERS) == value_of(text)

    digits = FIRST_CHARACTERS + 1
    check_rows(["1" * digits, "-" + "1" * digits, "0." + "1" * digits, "1e" + "0" * digits + "2"], check)


def test_a_small_value_is_not_read_from_a_whole_piece() -> None:
    """In a large list each of them would be copied."""
    sizes: list[int] = []
    decode = JSONDecoder.raw_decode

    def measured(decoder: JSONDecoder, text: str, start: int = 0) -> tuple[Any, int]:
        sizes.append(len(text))
        return decode(decoder, text, start)

    with patch.object(JSONDecoder, "raw_decode", measured):
        parse_large_json(b"[" + b"0," * PIECE_CHARACTERS + b"0]")
    assert sizes.count(PIECE_CHARACTERS) == 1
    assert sorted(sizes)[-2] == FIRST_CHARACTERS
