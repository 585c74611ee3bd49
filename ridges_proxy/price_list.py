"""The prices in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.errors import ModelNotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.pricing import Price


class PriceList:
    """What each model costs now.

    It is replaced as a whole, by one assignment: whoever took a price or `prices` before keeps them, and
    nobody sees a part of two lists.
    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices

    @property
    def prices(self) -> Mapping[str, Price]:
        """All of them as they are now, in the order of the setting."""
        return self._prices

    def names(self) -> list[str]:
        """The models that have a price, in the order of the setting."""
        return list(self._prices)

    def price_of(self, model: str) -> Price:
        """A model's price; raises ModelNotSupportedError if it has none."""
        prices = self._prices
        if model not in prices:
            raise ModelNotSupportedError(model, list(prices))
        return prices[model]

    def replace(self, prices: Mapping[str, Price]) -> None:
        """Put other prices in force for what is asked from now on."""
        self._prices = prices
