"""Shares of a budget, as text and as a bar."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.cli.shares import Bar, share_text
from tests.support.table import each_row

NANO = 1e-9
AMOUNTS = st.integers(0, 10**12)


@each_row(
    ("part", "whole", "text"),
    [
        (0, 1, "0%"),
        (NANO, 1, "<1%"),
        (0.004999999, 1, "<1%"),
        (0.005, 1, "1%"),
        (0.494999999, 1, "49%"),
        (0.495, 1, "50%"),
        (0.125, 1, "13%"),
        (0.994999999, 1, "99%"),
        (0.995, 1, ">99%"),
        (1 - NANO, 1, ">99%"),
        (1, 1, "100%"),
        (1.005, 1, "101%"),
        (50, 1, "5,000%"),
        (0, 0, "100%"),
        (1, 0, "100%"),
    ],
)
def test_a_share_is_rounded_half_up_but_never_to_nothing_or_all(part: float, whole: float, text: str) -> None:
    assert share_text(part, whole) == text


@each_row(
    ("spent", "held", "whole", "text", "in_ascii"),
    [
        (0, 0, 1, "░" * 20, "." * 20),
        (1, 0, 1, "█" * 20, "#" * 20),
        (2, 1, 1, "█" * 19 + "▒", "#" * 19 + "="),
        (0, 0, 0, "█" * 20, "#" * 20),
        (0.5, 0.25, 1, "█" * 10 + "▒" * 5 + "░" * 5, "#" * 10 + "=" * 5 + "." * 5),
        (0.003, 0, 1, "▏" + "░" * 19, "#" + "." * 19),
        (NANO, NANO, 1, "▏▒" + "░" * 18, "#=" + "." * 18),
        (0, NANO, 1, "▒" + "░" * 19, "=" + "." * 19),
        (0.27, 0, 1, "█" * 5 + "▍" + "░" * 14, "#" * 5 + "." * 15),
        (0.999, 0, 1, "█" * 19 + "▉", "#" * 19 + "."),
        (0.5, 0.499, 1, "█" * 10 + "▒" * 9 + "░", "#" * 10 + "=" * 9 + "."),
        (0.999, 0.0005, 1, "█" * 18 + "▒░", "#" * 18 + "=."),
        (1 - NANO, NANO, 1, "█" * 19 + "▒", "#" * 19 + "="),
    ],
)
def test_the_bar_is_the_budget(spent: float, held: float, whole: float, text: str, in_ascii: str) -> None:
    bar = Bar(spent, held, whole, 20)
    assert bar.text(20, ascii_only=False).plain == text
    assert bar.text(20, ascii_only=True).plain == in_ascii


@given(
    spent=AMOUNTS,
    held=AMOUNTS,
    whole=AMOUNTS.filter(bool),
    columns=st.integers(4, 40),
    ascii_only=st.booleans(),
)
def test_a_bar_hides_no_part_and_is_full_only_if_nothing_remains(
    *, spent: int, held: int, whole: int, columns: int, ascii_only: bool
) -> None:
    text = Bar(spent * NANO, held * NANO, whole * NANO, columns).text(columns, ascii_only=ascii_only).plain

    assert len(text) == columns
    assert (text[0] not in "▒=░.") == (spent > 0)
    assert bool({*"▒="} & {*text}) == (held > 0)
    assert (text[-1] in "█▒#=") == (spent + held >= whole)
