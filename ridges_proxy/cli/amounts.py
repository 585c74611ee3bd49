"""Amounts of money as text."""

from __future__ import annotations

from ridges_proxy.billing.money import NANOUSD_DECIMALS, NANOUSD_PER_USD

SIGNIFICANT_USD = 0.01
"""Smaller amounts are shown with three significant digits in tables, others with four decimals."""


def usd(amount: float) -> str:
    """Format an amount for a table: four decimals, or three significant digits if it is small."""
    if 0 < amount < SIGNIFICANT_USD:
        leading_zeros = -int(f"{amount:e}".partition("e")[2])
        return f"${amount:.{min(leading_zeros + 2, NANOUSD_DECIMALS)}f}"
    return f"${amount:,.4f}"


def exact_usd(amount: float) -> str:
    """Format an amount to the nano-USD, without trailing zeros but with at least two decimals."""
    return exact_usd_of(round(amount * NANOUSD_PER_USD))


def exact_usd_of(amount_nanousd: int) -> str:
    """Format nano-USD in the same way, without a rounding error however large the amount is."""
    return f"${exact_decimals(amount_nanousd)}"


def exact_decimals(amount_nanousd: int) -> str:
    """Format nano-USD in the same way, without the sign of the currency."""
    whole, rest = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    decimals = f"{rest:0{NANOUSD_DECIMALS}}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount_nanousd < 0 else ''}{whole:,}.{decimals}"
