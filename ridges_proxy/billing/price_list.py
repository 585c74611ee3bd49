"""The prices of models that are in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.errors import ModelNotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.exact_counts import TokenCounter
    from ridges_proxy.billing.prices import Price


class PriceList:
    """The current price of each model.

    A reload replaces all prices by one assignment, so readers never see a mixture of two lists. A price or
    mapping that was read before keeps its values.
    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices

    @property
    def prices(self) -> Mapping[str, Price]:
        """All current prices, in the order of the setting."""
        return self._prices

    def allowed(self, only: frozenset[str] | None) -> dict[str, Price]:
        """Return the prices of the models that a run may use; of all models for None."""
        return {model: price for model, price in self._prices.items() if only is None or model in only}

    def price_of(self, model: str, only: frozenset[str] | None = None) -> Price:
        """Return a model's price. Raises ModelNotSupportedError if it has none, or is not allowed."""
        price = self._prices.get(model)
        if price is None or (only is not None and model not in only):
            raise ModelNotSupportedError(model, list(self.allowed(only)))
        return price

    def counter_of(self, model: str) -> TokenCounter | None:
        """Return the tokenizer of a model; None if it has none, or no price."""
        price = self._prices.get(model)
        return None if price is None else price.tokenizer

    def replace(self, prices: Mapping[str, Price]) -> None:
        """Replace all prices. They apply to calls that begin afterwards."""
        self._prices = prices
