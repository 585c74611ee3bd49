"""Comparison of the configured prices with the upstream's prices."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.upstream import CatalogModel

FLOAT_NOISE_NANOUSD = 1
"""Tolerance per million tokens. The upstream publishes floats, and 0.1 + 0.2 is a nano-dollar above 0.3."""

UNIT_FACTOR = 1_000_000
UNIT_MARGIN = 10
"""A price per token that was entered as a price per million tokens is wrong by a factor of a million. Prices
of the same model differ by less than the margin."""


class Verdict(StrEnum):
    """Result of the comparison for a model, from the worst to the best."""

    LOWER = "ours is lower"
    NOT_OFFERED = "not offered upstream"
    NO_PRICE = "no price given upstream"
    HIGHER = "ours is higher"
    SAME = "same"


class Rates(NamedTuple):
    """One price, configured and upstream, in nano-USD per million tokens."""

    configured: int
    published: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Configured and upstream price of one model."""

    model: str
    price: Price
    offer: CatalogModel | None
    verdict: Verdict
    unit_warning: str | None
    """Warning that one of the prices seems to be per token, if so."""


def compare(prices: Mapping[str, Price], catalog: Mapping[str, CatalogModel]) -> list[Comparison]:
    """Compare each configured price with the upstream's price of the same model."""
    return [
        _comparison(model, price, catalog.get(price.upstream_model or model))
        for model, price in prices.items()
    ]


def _comparison(model: str, price: Price, offer: CatalogModel | None) -> Comparison:
    if offer is None:
        return Comparison(model, price, None, Verdict.NOT_OFFERED, None)
    rates = _rates(price, offer)
    return Comparison(model, price, offer, _verdict(rates), _unit_warning(rates))


def _rates(price: Price, offer: CatalogModel) -> list[Rates]:
    """Return the prices to compare. The price of cached input is optional: its default is that of input."""
    rates = [
        Rates(price.input_nanousd, offer.input_nanousd),
        Rates(price.output_nanousd, offer.output_nanousd),
    ]
    if price.cached_input_nanousd is not None:
        rates.append(Rates(price.cached_input_nanousd, offer.cached_input_nanousd))
    return rates


def _verdict(rates: list[Rates]) -> Verdict:
    """Return the worst result of all rates."""
    differences = [configured - published for configured, published in rates if published is not None]
    if any(difference < -FLOAT_NOISE_NANOUSD for difference in differences):
        return Verdict.LOWER
    if len(differences) < len(rates):
        return Verdict.NO_PRICE
    return Verdict.HIGHER if any(each > FLOAT_NOISE_NANOUSD for each in differences) else Verdict.SAME


def _unit_warning(rates: list[Rates]) -> str | None:
    for configured, published in rates:
        if published and _is_other_unit(published, configured):
            return (
                "the configured price is about a millionth of the upstream's:"
                " MODEL_PRICES is per million tokens, not per token"
            )
        if published and _is_other_unit(configured, published):
            return "the upstream's price is about a millionth of the configured price: it may be per token"
    return None


def _is_other_unit(large: int, small: int) -> bool:
    return small * UNIT_FACTOR <= large * UNIT_MARGIN and large <= small * UNIT_FACTOR * UNIT_MARGIN
