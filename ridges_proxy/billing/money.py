"""Amounts of money: whole nano-USD, parsed from and shown as USD. Pure.

Everything rounds up: a fraction of a nano-dollar is charged as one, so that no number of small calls
adds up to more than was booked.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANOUSD_PER_USD = 1_000_000_000
MAX_USD = Decimal(1_000_000)
"""No setting or price above this is meant; it keeps every sum within 64 bits."""

_UPWARDS = Context(rounding=ROUND_CEILING)
"""28 digits, twelve of them behind the point: what does not fit into them is rounded up as well."""


def nanousd_from_usd(text: str) -> int:
    """Whole nano-USD for an amount in USD, rounded up.

    Raises ValueError for anything but a finite amount from 0 to MAX_USD.
    """
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError("is not an amount in USD") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_USD:
        raise ValueError(f"must be an amount in USD from 0 to {MAX_USD}")
    amount_nanousd = _UPWARDS.multiply(amount, Decimal(NANOUSD_PER_USD))
    return int(amount_nanousd.to_integral_value(ROUND_CEILING))


def usd_from_nanousd(amount_nanousd: int) -> float:
    """An amount in USD for people and for JSON: never to calculate with."""
    return amount_nanousd / NANOUSD_PER_USD
