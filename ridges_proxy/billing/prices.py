"""Prices of models and of time, and the cost of a usage. Pure; amounts in nano-USD, rounded up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from ridges_proxy.billing.exact_counts import TokenCounter

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens, as in the upstream's `/v1/models`."""

MAX_COUNTED_TOKENS = 1_000_000_000
"""Maximum tokens in a usage that is believed (the longest known context is about ten million tokens)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens, as the upstream reports them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """The part of the prompt's tokens that the upstream had in its cache."""


class TokenizerOfModel(TokenCounter, Protocol):
    """A tokenizer that was read from a file."""

    path: str


@dataclass(frozen=True, slots=True)
class Price:
    """A model's rates in nano-USD per million tokens."""

    input_nanousd: int
    output_nanousd: int
    cached_input_nanousd: int | None = None
    """At most the input's rate, so that a bound without a cache holds with one too. None: the same rate."""
    upstream_model: str | None = None
    """The model's name at the upstream, if its name here is an alias."""
    tokenizer: TokenizerOfModel | None = None
    """The model's tokenizer, which counts prompts exactly. None: their bytes are counted."""
    context_length: int | None = None
    """The most tokens of a prompt and its answer. Only shown to clients: no price or limit depends on it."""

    def cost_nanousd(self, usage: Usage) -> int:
        """Return the cost of a usage. It is rounded up once, at the end."""
        cached_rate = self.input_nanousd if self.cached_input_nanousd is None else self.cached_input_nanousd
        uncached_tokens = usage.prompt_tokens - usage.cached_tokens
        total_cost = (
            uncached_tokens * self.input_nanousd
            + usage.cached_tokens * cached_rate
            + usage.completion_tokens * self.output_nanousd
        )
        return -(-total_cost // TOKENS_PER_PRICE)

    def completion_tokens_for(self, amount_nanousd: int, prompt_tokens: int) -> int:
        """Return the maximum completion tokens that the amount pays for after the prompt; at least 0."""
        remaining = amount_nanousd * TOKENS_PER_PRICE - prompt_tokens * self.input_nanousd
        if remaining < 0:
            return 0
        return remaining // self.output_nanousd if self.output_nanousd else MAX_COUNTED_TOKENS


def seconds_cost_nanousd(seconds: float, nanousd_per_second: int) -> int:
    """Return the cost of a time, rounded up.

    The time is rounded up to integer nanoseconds first, so that the multiplication is exact.
    """
    nanoseconds = math.ceil(max(0.0, seconds) * 1_000_000_000)
    return -(-nanoseconds * nanousd_per_second // 1_000_000_000)
