"""The amounts on the dashboard's pages."""

from __future__ import annotations

import re

from ridges_proxy.web.dashboard.amounts import usd, usd_of, usd_text
from tests.support.table import check_rows

SHOWN = {
    0: ("$0.00", "0000"),
    1: ("$0.000000001", ""),
    700: ("$0.0000007", "00"),
    99_999: ("$0.000099999", ""),
    50_000: ("$0.00005", "0"),
    100_001: ("$0.0001", "00"),
    12_345_678: ("$0.012346", ""),
    1_000_000_000: ("$1.00", "0000"),
    1_500_000_000: ("$1.50", "0000"),
    1_234_567_890_120_000: ("$1,234,567.89012", "0"),
    -700: ("-$0.0000007", "00"),
    0.4: ("$0.00", "0000"),
}
"""Amounts in nano-USD: the digits, and the dim zeros after them."""


def plain(markup: str) -> str:
    return re.sub("<[^>]*>", "", markup)


def test_an_amount_has_the_decimals_that_it_needs_and_dim_zeros() -> None:
    def check(amount: float) -> None:
        digits, zeros = SHOWN[amount]
        assert usd_text(amount) == digits
        assert plain(usd(amount)) == digits + zeros
        dimmed = f'<span class="zeros">{zeros}</span>'
        assert (dimmed in usd(amount)) == bool(zeros)

    check_rows(SHOWN, check)


def test_all_amounts_of_a_table_have_the_same_number_of_decimals() -> None:
    tables: dict[str, tuple[list[int], list[str]]] = {
        "usual": ([2_000_000_000, 123_456_789, 0], ["$2.000000", "$0.123457", "$0.000000"]),
        "one is small": ([2_000_000_000, 123_456_789, 7], ["$2.000000000", "$0.123456789", "$0.000000007"]),
        "empty": ([], []),
    }

    def check(name: str) -> None:
        amounts, texts = tables[name]
        shown = usd_of([{"cost": amount} for amount in amounts], "cost")
        assert [plain(shown(amount)) for amount in amounts] == texts

    check_rows(tables, check)
