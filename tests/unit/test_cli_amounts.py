from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.cli.amounts import exact_decimals, exact_usd, exact_usd_of, usd
from tests.support.table import check_rows


def test_amounts_have_these_forms() -> None:
    rows: list[tuple[str, str]] = [
        (usd(0), "$0.0000"),
        (usd(1234.5), "$1,234.5000"),
        (usd(0.000123456), "$0.000123"),
        (usd(0.000000001), "$0.000000001"),
        (exact_usd(0), "$0.00"),
        (exact_usd(0.5), "$0.50"),
        (exact_usd(-0.5), "$-0.50"),
        (exact_usd(1234.000000001), "$1,234.000000001"),
        (exact_usd_of(10**18 + 1), "$1,000,000,000.000000001"),
        (exact_decimals(270_000_000), "0.27"),
    ]

    def check(row: tuple[str, str]) -> None:
        text, expected = row
        assert text == expected

    check_rows(rows, check)


@given(amount_nanousd=st.integers(-(10**20), 10**20))
def test_an_exact_amount_loses_nothing(amount_nanousd: int) -> None:
    text = exact_usd_of(amount_nanousd).replace("$", "").replace(",", "")

    assert Decimal(text) * 10**9 == amount_nanousd
