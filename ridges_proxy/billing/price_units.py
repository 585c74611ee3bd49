"""Prices that seem to be per token, although MODEL_PRICES is per million tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price

MIN_NANOUSD = NANOUSD_PER_USD // 1_000
"""0.001 USD per million tokens. The cheapest models cost several times as much, and a price per token of the
most expensive ones (0.0006 USD) is below it."""

WARNING = "a price in MODEL_PRICES is below 0.001 USD per million tokens: it seems to be per token"


def models_priced_per_token(prices: Mapping[str, Price]) -> list[str]:
    """Return the models whose price of input or of output seems to be per token.

    A price of 0 is a free model. Cached input may be a tenth of a low price of input, so it is not examined.
    """
    return [model for model, price in prices.items() if _is_per_token(price)]


def _is_per_token(price: Price) -> bool:
    return any(0 < rate < MIN_NANOUSD for rate in (price.input_nanousd, price.output_nanousd))
