"""Amounts of money on the pages: never shown as zero if they are not, and aligned in a column."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ridges_proxy.billing.money import NANOUSD_DECIMALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

USUAL_DECIMALS = 6
NANOUSD_OF_LAST_USUAL = 10 ** (NANOUSD_DECIMALS - USUAL_DECIMALS)
"""The amount that the last of the usual decimals stands for."""

STRONG_DECIMALS = 2
"""Zeros up to this decimal are not dim: $1.00."""

MIN_SIGNIFICANT_NANOUSD = 100_000
"""Smaller amounts have less than three significant digits in the usual decimals, so they get all nine."""

_DIMMED = Markup('<span class="usd">{digits}<span class="zeros">{zeros}</span></span>')
_PLAIN = Markup('<span class="usd">{digits}</span>')


def usd(amount_nanousd: float) -> Markup:
    """One amount, with the decimals that it needs. The zeros at its end are dim."""
    return _shown(amount_nanousd, _decimals_of([amount_nanousd]))


def usd_text(amount_nanousd: float) -> str:
    """The same as text, without zeros from the third decimal on."""
    return _parts(amount_nanousd, _decimals_of([amount_nanousd]))[0]


def usd_of(rows: Iterable[Any], *names: str) -> Callable[[float], Markup]:
    """A function that shows the amounts of a table, all with the same number of decimals.

    `names` are the attributes or keys of the rows that are amounts in nano-USD.
    """
    amounts = [row[name] if isinstance(row, dict) else getattr(row, name) for row in rows for name in names]
    decimals = _decimals_of(amounts)
    return lambda amount_nanousd: _shown(amount_nanousd, decimals)


def _decimals_of(amounts: Iterable[float]) -> int:
    return NANOUSD_DECIMALS if any(_needs_all_decimals(amount) for amount in amounts) else USUAL_DECIMALS


def _needs_all_decimals(amount_nanousd: float) -> bool:
    is_small = 0 < abs(amount_nanousd) < MIN_SIGNIFICANT_NANOUSD
    return is_small and round(amount_nanousd) % NANOUSD_OF_LAST_USUAL != 0


def _shown(amount_nanousd: float, decimals: int) -> Markup:
    digits, zeros = _parts(amount_nanousd, decimals)
    return (_DIMMED if zeros else _PLAIN).format(digits=digits, zeros=zeros)


def _parts(amount_nanousd: float, decimals: int) -> tuple[str, str]:
    """The text in two parts: the digits that say something, and the zeros after them."""
    amount = Decimal(round(amount_nanousd)).scaleb(-NANOUSD_DECIMALS)
    text = f"{'-' if amount < 0 else ''}${abs(amount):,.{decimals}f}"
    shortest = len(text) - decimals + STRONG_DECIMALS
    digits = text[:shortest] + text[shortest:].rstrip("0")
    return digits, text[len(digits) :]
