"""Prices of models and of time, and what a usage costs by them. Pure; amounts in nano-USD, rounded up."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens, as the upstream's `/v1/models` publishes them."""

MAX_COUNTED_TOKENS = 1_000_000_000
"""A usage above this is no usage (the longest context served anywhere is about ten million)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Of the prompt's: those that the upstream had in its cache."""


@dataclass(frozen=True, slots=True)
class Price:
    """A model's rates in nano-USD per million tokens."""

    input_nanousd: int
    output_nanousd: int
    cached_input_nanousd: int | None = None
    """At most the input's rate, so that a bound without the cache is one with it; None: the same."""
    upstream_model: str | None = None
    """What the upstream calls the model, where its public name here is an alias."""

    def cost_nanousd(self, usage: Usage) -> int:
        """What the usage costs, rounded up once, at the end."""
        cached_rate = self.input_nanousd if self.cached_input_nanousd is None else self.cached_input_nanousd
        fresh_tokens = usage.prompt_tokens - usage.cached_tokens
        total = (
            fresh_tokens * self.input_nanousd
            + usage.cached_tokens * cached_rate
            + usage.completion_tokens * self.output_nanousd
        )
        return -(-total // TOKENS_PER_PRICE)

    def completion_tokens_for(self, amount_nanousd: int, prompt_tokens: int) -> int:
        """The most completion tokens that the amount pays for beside the prompt; 0 if not even that."""
        left = amount_nanousd * TOKENS_PER_PRICE - prompt_tokens * self.input_nanousd
        if left < 0:
            return 0
        return left // self.output_nanousd if self.output_nanousd else MAX_COUNTED_TOKENS


def seconds_cost_nanousd(seconds: float, nanousd_per_second: int) -> int:
    """What a time costs, rounded up; the time is taken in whole nanoseconds first, so no float is priced."""
    nanoseconds = math.ceil(max(0.0, seconds) * 1_000_000_000)
    return -(-nanoseconds * nanousd_per_second // 1_000_000_000)
