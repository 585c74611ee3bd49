"""A string of a large answer is read in pieces, as the string that it is."""

from __future__ import annotations

import json
from contextlib import suppress
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream import large_json
from ridges_proxy.upstream.large_json import parse_large_json

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
