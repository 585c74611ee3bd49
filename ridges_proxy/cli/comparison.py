"""Our prices beside the upstream's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.upstream import Offer

FLOAT_NOISE_NANOUSD = 1
"""Per million tokens. The upstream publishes floats: 0.1 + 0.2 of them is a nano-dollar above 0.3."""

SLIP_FACTOR = 1_000_000
SLIP_MARGIN = 10
"""A price per token taken for one per million is a million times off, and prices move by less than this."""


class Verdict(StrEnum):
    """How our price of a model compares; from the worst to what is right."""

    LOWER = "ours is lower"
    NOT_OFFERED = "not offered upstream"
    NO_PRICE = "no price given upstream"
    HIGHER = "ours is higher"
    SAME = "same"


class Rates(NamedTuple):
    """One rate, here and there, in nano-USD per million tokens."""

    ours: int
    theirs: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model's price here and there."""

    model: str
    price: Price
    offer: Offer | None
    verdict: Verdict
    slip: str | None
    """Which price looks as if it were per token, if one does."""


def compare(prices: Mapping[str, Price], catalogue: Mapping[str, Offer]) -> list[Comparison]:
    """Compare every price here with that of the model that it stands for upstream."""
    return [
        _comparison(model, price, catalogue.get(price.upstream_model or model))
        for model, price in prices.items()
    ]


def _comparison(model: str, price: Price, offer: Offer | None) -> Comparison:
    if offer is None:
        return Comparison(model, price, None, Verdict.NOT_OFFERED, None)
    rates = _rates(price, offer)
    return Comparison(model, price, offer, _verdict(rates), _slip(rates))


def _rates(price: Price, offer: Offer) -> list[Rates]:
    """What can be compared. A price here without a rate for what was cached charges input's, on purpose."""
    rates = [
        Rates(price.input_nanousd, offer.input_nanousd),
        Rates(price.output_nanousd, offer.output_nanousd),
    ]
    if price.cached_input_nanousd is not None:
        rates.append(Rates(price.cached_input_nanousd, offer.cached_input_nanousd))
    return rates


def _verdict(rates: list[Rates]) -> Verdict:
    """The worst that is true of any rate."""
    differences = [ours - theirs for ours, theirs in rates if theirs is not None]
    if any(difference < -FLOAT_NOISE_NANOUSD for difference in differences):
        return Verdict.LOWER
    if len(differences) < len(rates):
        return Verdict.NO_PRICE
    return Verdict.HIGHER if any(each > FLOAT_NOISE_NANOUSD for each in differences) else Verdict.SAME


def _slip(rates: list[Rates]) -> str | None:
    for ours, theirs in rates:
        if theirs and _smells(theirs, ours):
            return (
                "ours is about a millionth of the upstream's: MODEL_PRICES is per million tokens, not per one"
            )
        if theirs and _smells(ours, theirs):
            return "the upstream's is about a millionth of ours: it may be per token"
    return None


def _smells(large: int, small: int) -> bool:
    return small * SLIP_FACTOR <= large * SLIP_MARGIN and large <= small * SLIP_FACTOR * SLIP_MARGIN
