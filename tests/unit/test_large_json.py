"""Values of a large answer that are read in pieces, as the values that they are."""

from __future__ import annotations

import json
from contextlib import suppress
from json import JSONDecoder
from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.upstream import large_json
from ridges_proxy.upstream.large_json import (
    FIRST_CHARACTERS,
    OPENED_VALUES,
    PIECE_CHARACTERS,
    parse_large_json,
)
from tests.support.table import check_rows

ESCAPES = [r"\n", r"\\", r"\"", r"\/", r"\u0041", r"\ud83d", r"\ude00", r"\ud83d\ude00"]
INVALID = ["\\x", "\\u12", "\n", "\\"]

SMALLEST_PIECE = len(r'"\u0041"')
"""Characters of the smallest piece that holds each escape."""

valid_pieces = st.sampled_from(["a", "é", "😀", "u1234", *ESCAPES])
bodies = st.lists(valid_pieces, max_size=40) | st.lists(valid_pieces | st.sampled_from(INVALID), max_size=40)


def value_of(text: str) -> object:
    """The value by Python's parser; None if it is invalid."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def large_value_of(text: str, piece_characters: int, **limits: int) -> object:
    """The same by the parser of large answers, for which all is large that does not fit into a piece."""
    sizes: dict[str, Any] = {"FIRST_CHARACTERS": piece_characters, "PIECE_CHARACTERS": piece_characters}
    with patch.multiple(large_json, **(sizes | limits)), suppress(ValueError):
        return parse_large_json(text.encode())[1]
    return None


@given(pieces=bodies, piece_characters=st.integers(SMALLEST_PIECE, 20))
@example(pieces=[r"\ud83d", r"\ude00"], piece_characters=SMALLEST_PIECE)
@example(pieces=["a", r"\ud83d", r"\ude00", r"\ud83d"], piece_characters=SMALLEST_PIECE + 1)
@example(pieces=[r"\ude00", r"\ud83d", "a" * 20], piece_characters=SMALLEST_PIECE)
@example(pieces=["a" * 20, "\\x"], piece_characters=SMALLEST_PIECE)
def test_a_string_may_be_cut_anywhere(pieces: list[str], piece_characters: int) -> None:
    text = '{{"{0}": ["{0}"]}}'.format("".join(pieces))
    assert large_value_of(text, piece_characters) == value_of(text)


def test_an_invalid_value_is_none_in_pieces_either() -> None:
    long = '"aaaaaaaaaaaaaaaaaaaa"'
    cut = [long[:-1], long[:-1] + "\\", long[:-1] + '\\u12"', long[1:], "1" * 20 + "x"]
    lists = [f"[{long[1:-1]}]", f"[{long}", f"[{long}}}", f"[{long},]", f"[{long}] 1"]
    objects = [f"{{{long}}}", f"{{{long}:1", f"{{{long}:1]", f"{{{long[1:-1]}:1}}"]

    def check(text: str) -> None:
        assert value_of(text) is None
        assert large_value_of(text, SMALLEST_PIECE) is None

    check_rows([*cut, *lists, *objects], check)


def test_too_many_values_levels_or_items_are_refused() -> None:
    """Each limit is reached, and exceeded by one. The outer lists and objects are larger than a piece."""

    def check(row: tuple[str, str, int]) -> None:
        text, limit, size = row
        assert large_value_of(text, 10, **{limit: size}) == value_of(text)
        assert large_value_of(text, 10, **{limit: size - 1}) is None

    rows = [
        ("[1,2,3,4,5,6,7,8]", "MAX_ITEMS", 1 + 8),
        ('{"a":1,"b":2,"c":"............"}', "MAX_ITEMS", 1 + 3),
        ("[[1,2,3,4,5],[1,2,3,4,5]]", "MAX_ITEMS", 1 + 2 + 2 * 5),
        ("[[[1],[2]],[],[[1],[2]]]", "MAX_VALUES", OPENED_VALUES + 5 + 1 + 5),
        ('[{"a":[1]},{},1,2,3,4]', "MAX_VALUES", OPENED_VALUES + 3 + 1),
        ('["............",["............"]]', "MAX_LEVELS", 2),
        ('["............",[["............"]]]', "MAX_LEVELS", 3),
        ('{"a":{"b":"............"}}', "MAX_LEVELS", 2),
        ('{"a":{"b":{"c":"............"}}}', "MAX_LEVELS", 3),
    ]
    check_rows(rows, check)


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
