"""The settings about models and their prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.config import parsers
from ridges_proxy.config.field import setting
from ridges_proxy.config.model_prices import read_prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.prices import Price

DEFAULT_MODEL = "deepseek-ai/DeepSeek-V3-0324"


@dataclass(frozen=True, kw_only=True)  # no slots: only one of the bases of Settings can have them
class PriceSettings:
    """Settings that the command line needs to compare prices with the upstream's."""

    model_prices: Mapping[str, Price] = setting(
        "MODEL_PRICES",
        read_prices,
        f'{{"{DEFAULT_MODEL}": 0.27}}',
        "USD per million tokens by model: JSON, or the path of a JSON or TOML file. A price is one"
        ' number, or an object such as {"input": 0.27, "output": 1.1}. The object may also have'
        ' "cached_input", the price of prompt tokens that the upstream had cached (at most "input"),'
        ' "upstream", the upstream\'s name of the model if the name here is an alias, "context_length", which'
        ' GET /v1/models shows, and "tokenizer", the path of the model\'s tokenizer.json, with which prompts'
        " are counted exactly (needs ridges-proxy[tokenizers]). Calls to models without a price are refused.",
    )
    default_model: str = setting(
        "DEFAULT_MODEL", parsers.text, DEFAULT_MODEL, "Model of calls that name none. It must have a price."
    )
    chutes_base_url: str = setting(
        "CHUTES_BASE_URL",
        parsers.url,
        "https://llm.chutes.ai/v1",
        "Base URL of the upstream, for chat completions and for the list of models.",
    )
    connect_timeout_seconds: float = setting(
        "CONNECT_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 60),
        "5",
        "Time limit for one attempt to connect to the upstream, in seconds.",
    )
