"""The models with a price, in the form of `/v1/models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.config import Settings

OWNER = "chutes"


def models_json(
    prices: Mapping[str, Price], settings: Settings, allowed: frozenset[str] | None
) -> list[dict[str, Any]]:
    """All models with their prices: USD per million tokens, or per second for embeddings."""
    models = [_model(name, _pricing(price)) for name, price in prices.items()]
    if allowed is None or settings.embedding_model in allowed:
        second_usd = usd_from_nanousd(settings.embedding_nanousd_per_second)
        models.append(_model(settings.embedding_model, {"second": second_usd}))
    return models


def _model(name: str, pricing: dict[str, float]) -> dict[str, Any]:
    # Clients need a number in `created`. The proxy knows no date.
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "pricing": pricing}


def _pricing(price: Price) -> dict[str, float]:
    rates = {"prompt": price.input_nanousd, "completion": price.output_nanousd}
    if price.cached_input_nanousd is not None:
        rates["input_cache_read"] = price.cached_input_nanousd
    return {name: usd_from_nanousd(rate) for name, rate in rates.items()}
