"""The list of models in the form of Chutes' own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .prices import NANOUSD_PER_USD

if TYPE_CHECKING:
    from .prices import Prices, Rates

NAMES = (
    "deepseek-ai/DeepSeek-V3-0324",
    "deepseek-ai/DeepSeek-R1-0528",
    "moonshotai/Kimi-K2-Instruct",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
    "zai-org/GLM-4.5-FP8",
)
CONTEXT_TOKENS = 131_072
USD_PER_TAO = 400
CREATED = 1_750_000_000


def list_models(prices: Prices) -> dict[str, Any]:
    """Return the answer. Prices are USD per million tokens, as floats, as Chutes sends them."""
    others = [name for name in prices.of_models if name not in NAMES]
    return {"object": "list", "data": [_model(name, prices.of(name)) for name in (*NAMES, *others)]}


def _model(name: str, rates: Rates) -> dict[str, Any]:
    prompt, completion = rates.input_nanousd / NANOUSD_PER_USD, rates.output_nanousd / NANOUSD_PER_USD
    return {
        "id": name,
        "root": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "sglang",
        "price": {"input": _price(prompt), "output": _price(completion)},
        "pricing": {"prompt": prompt, "completion": completion},
        "context_length": CONTEXT_TOKENS,
        "max_output_length": CONTEXT_TOKENS,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "supported_features": ["json_mode", "tools"],
    }


def _price(usd: float) -> dict[str, float]:
    return {"usd": usd, "tao": usd / USD_PER_TAO}
