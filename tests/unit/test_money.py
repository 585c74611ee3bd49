from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.money import MAX_USD, NANOUSD_PER_USD, nanousd_from_usd, usd_from_nanousd
from tests.support.table import check_rows

if TYPE_CHECKING:
    from decimal import Decimal


AMOUNTS = [
    ("0", 0),
    ("-0", 0),
    ("0.0", 0),
    ("2", 2_000_000_000),
    ("2.0", 2_000_000_000),
    (" 2.0\n", 2_000_000_000),
    ("+1", 1_000_000_000),
    ("0.27", 270_000_000),
    ("0.0001", 100_000),
    ("1e-9", 1),
    ("1e-10", 1),
    ("0.0000000001", 1),
    ("1e-999999", 1),
    ("1e-1000000000", 1),
    ("0.1", 100_000_000),
    ("0.3", 300_000_000),
    ("0.1234567891", 123_456_790),
    ("0.123456789", 123_456_789),
    ("1.00000000000000000000000000000000001", 1_000_000_001),
    ("999999.99999999999999999999999999999999", 10**15),
    ("1E3", 10**12),
    ("1000000", 10**15),
    ("1e6", 10**15),
    (".5", 500_000_000),
    ("5.", 5_000_000_000),
]

INVALID_AMOUNTS = [
    "",
    " ",
    "x",
    "0x1",
    "1,5",
    "$1",
    "1 USD",
    "X1X",
    "1.2.3",
    "--1",
    "NaN",
    "sNaN",
    "nan",
    "Infinity",
    "inf",
    "-Infinity",
    "-1",
    "-1e-10",
    "1000000.000000000000000000000000000000001",
    "1000001",
    "1e30",
    "1e999999999",
    "1e99999999999999999999",
    "\u0662",  # digits of other scripts
    "\uff12",
    "\u0967.\u096b",
    "1e\u0662",
    "1_0",  # Python's own form of a number
    "1_0.0",
    "1e1_0",
    "\u00a02",  # spaces that are not ASCII
    "2\u3000",
    "1\uff0e5",
    "\u22120",
    ".",
    "e3",
    "1e",
    "1 0",
]


def test_an_amount_in_usd_becomes_integer_nano_usd_rounded_up() -> None:
    def check(row: tuple[str, int]) -> None:
        text, nanousd = row
        assert nanousd_from_usd(text) == nanousd

    check_rows(AMOUNTS, check)


def test_an_invalid_amount_in_usd_is_refused() -> None:
    def check(text: str) -> None:
        with pytest.raises(ValueError, match="USD"):
            nanousd_from_usd(text)

    check_rows(INVALID_AMOUNTS, check)


@given(amount=st.decimals(0, MAX_USD, allow_nan=False) | st.decimals(0, 1, places=40))
def test_no_amount_is_rounded_down(amount: Decimal) -> None:
    assert nanousd_from_usd(str(amount)) == ceil(Fraction(amount) * NANOUSD_PER_USD)


@given(nanousd=st.integers(0, 10**15))
def test_a_displayed_amount_parses_as_the_same_amount(nanousd: int) -> None:
    assert nanousd_from_usd(f"{usd_from_nanousd(nanousd):.9f}") == nanousd
