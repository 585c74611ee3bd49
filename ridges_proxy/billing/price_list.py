"""The prices in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.errors import ModelNotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price


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

    def allowed(self, only: frozenset[str] | None) -> dict[str, Price]:
        """Those of some models alone, where a run is limited to them; of all, for None."""
        return {model: price for model, price in self._prices.items() if only is None or model in only}

    def price_of(self, model: str, only: frozenset[str] | None = None) -> Price:
        """A model's price; raises ModelNotSupportedError if it has none, or is none of those allowed."""
        price = self._prices.get(model)
        if price is None or (only is not None and model not in only):
            raise ModelNotSupportedError(model, list(self.allowed(only)))
        return price

    def replace(self, prices: Mapping[str, Price]) -> None:
        """Put other prices in force for what is asked from now on."""
        self._prices = prices
