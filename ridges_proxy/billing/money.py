"""Amounts of money: integers in nano-USD, converted from and to USD. Pure.

All rounding is up: a fraction of a nano-USD is charged as one, so that many small calls never add up to more
than the ledger recorded.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANOUSD_DECIMALS = 9
NANOUSD_PER_USD = 1_000_000_000
MAX_USD = Decimal(1_000_000)
"""Maximum of an amount or price in the settings. It keeps every sum within 64 bits."""

DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number in ASCII. Decimal and float also accept digits of other scripts, underscores and infinities."""

_UPWARDS = Context(rounding=ROUND_CEILING)
"""28 significant digits. Further digits are rounded up as well."""


def nanousd_from_usd(text: str) -> int:
    """Convert an amount in USD to integer nano-USD, rounded up.

    Raises ValueError unless the text is a DECIMAL from 0 to MAX_USD.
    """
    plain = text.strip(" \t\r\n")
    try:
        amount = Decimal(plain if DECIMAL.fullmatch(plain) else "")
    except InvalidOperation:
        raise ValueError("is not an amount in USD") from None
    if not 0 <= amount <= MAX_USD:
        raise ValueError(f"must be an amount in USD from 0 to {MAX_USD}")
    amount_nanousd = _UPWARDS.multiply(amount, Decimal(NANOUSD_PER_USD))
    return int(amount_nanousd.to_integral_value(ROUND_CEILING))


def usd_from_nanousd(amount_nanousd: int) -> float:
    """Convert an amount to USD for display and for JSON. Not for calculations: the result is a float."""
    return amount_nanousd / NANOUSD_PER_USD
