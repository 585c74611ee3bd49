"""The list of models as Chutes publishes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .prices import NANOUSD_PER_USD

if TYPE_CHECKING:
    from .prices import Prices

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
    """Build the answer; prices in USD per million tokens, as floats, since Chutes sends such."""
    usd = prices.nanousd_per_mtok / NANOUSD_PER_USD
    both = {"usd": usd, "tao": usd / USD_PER_TAO}
    return {"object": "list", "data": [_model(name, usd, both) for name in NAMES]}


def _model(name: str, usd: float, both: dict[str, float]) -> dict[str, Any]:
    return {
        "id": name,
        "root": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "sglang",
        "price": {"input": both, "output": both},
        "pricing": {"prompt": usd, "completion": usd},
        "context_length": CONTEXT_TOKENS,
        "max_output_length": CONTEXT_TOKENS,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "supported_features": ["json_mode", "tools"],
    }
