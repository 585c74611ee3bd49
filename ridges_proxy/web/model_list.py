"""The models with a price, in the form of `/v1/models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.calls.context_lengths import ContextLengths
    from ridges_proxy.config import Settings

OWNER = "chutes"
PER_TOKENS = "USD per million tokens"
PER_SECOND = "USD per second"


def models_json(
    prices: Mapping[str, Price],
    settings: Settings,
    allowed: frozenset[str] | None,
    published: ContextLengths,
) -> list[dict[str, Any]]:
    """All models with their prices: USD per million tokens, or per second for embeddings.

    A context length in the price entry comes before the one that the upstream publishes.
    """
    models = [
        _model(
            name,
            _pricing(price),
            PER_TOKENS,
            price.context_length or published.of(price.upstream_model or name),
        )
        for name, price in prices.items()
    ]
    if allowed is None or settings.embedding_model in allowed:
        second_usd = usd_from_nanousd(settings.embedding_nanousd_per_second)
        models.append(_model(settings.embedding_model, {"second": second_usd}, PER_SECOND))
    return models


def _model(
    name: str, pricing: dict[str, float], unit: str, context_length: int | None = None
) -> dict[str, Any]:
    model = {
        "id": name,
        "object": "model",
        "created": 0,  # clients need a number, and the proxy knows no date
        "owned_by": OWNER,
        "pricing": pricing,
        "pricing_unit": unit,
    }
    return model if context_length is None else {**model, "context_length": context_length}


def _pricing(price: Price) -> dict[str, float]:
    rates = {"prompt": price.input_nanousd, "completion": price.output_nanousd}
    if price.cached_input_nanousd is not None:
        rates["input_cache_read"] = price.cached_input_nanousd
    return {name: usd_from_nanousd(rate) for name, rate in rates.items()}
