"""Money: parsing, prices, usage, and bounds. Pure, and in whole nano-USD throughout.

Everything rounds up: a fraction of a nano-dollar is charged as one, so that no number of small calls
adds up to more than was booked.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANOUSD_PER_USD = 1_000_000_000
TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens, as the upstream's `/v1/models` publishes them."""

MAX_USD = Decimal(1_000_000)
"""No setting or price above this is meant; it keeps every sum within 64 bits."""

_UPWARDS = Context(rounding=ROUND_CEILING)
"""28 digits, twelve of them behind the point: what does not fit into them is rounded up as well."""

MAX_COUNTED_TOKENS = 1_000_000_000
"""A usage above this is no usage (the longest context served anywhere is about ten million)."""

TOKENS_PER_MESSAGE = 16
"""What a chat template puts around one message: at most 7 tokens in the templates of the models served
by Chutes; doubled, and rounded up."""

TOKENS_PER_CALL = 256
"""What a chat template puts before the first message by itself: the longest we know, a default system
text of about 850 characters, has some 200 tokens; most have none."""

_MARK = r"[^\w\x00-\x7f\u2100-\u2bff\U0001f000-\U0001faff]"
_MARKS = re.compile(f"(?<!{_MARK}){_MARK}{{32,}}")
"""A run that may be all combining marks: they are no letters, no digits, and no symbols such as tables are
drawn with. The time to order them grows with the square of their number: hours for those in one body."""

BYTES_PER_MARK_BYTE = 4
"""NFC makes at most three bytes of one; the fourth is for what the marks make of the letter before them."""


def nanousd_from_usd(text: str) -> int:
    """Whole nano-USD for an amount in USD, rounded up.

    Raises ValueError for anything but a finite amount from 0 to MAX_USD.
    """
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError("is not an amount in USD") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_USD:
        raise ValueError(f"must be an amount in USD from 0 to {MAX_USD}")
    amount_nanousd = _UPWARDS.multiply(amount, Decimal(NANOUSD_PER_USD))
    return int(amount_nanousd.to_integral_value(ROUND_CEILING))


def usd_from_nanousd(amount_nanousd: int) -> float:
    """An amount in USD for people and for JSON: never to calculate with."""
    return amount_nanousd / NANOUSD_PER_USD


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


def prompt_bound_tokens(sent: bytes, messages: int) -> int:
    """The most tokens that a prompt can count: its text's, and an allowance for the chat template."""
    return text_bound_bytes(sent) + messages * TOKENS_PER_MESSAGE + TOKENS_PER_CALL


def text_bound_bytes(text: bytes) -> int:
    """The most bytes that a UTF-8 text can have for a tokenizer, and so the most tokens.

    True for byte-level BPE, where a token covers at least one byte: the text's bytes, or those of its
    NFC form if that is longer (some tokenizers normalize first, and it can take three times the bytes).
    """
    if text.isascii():
        return len(text)
    calm = _MARKS.sub(" ", text.decode()).encode()
    marks_bytes = max(0, len(text) - len(calm))
    normalized = unicodedata.normalize("NFC", calm.decode()).encode()
    return max(len(text), len(normalized) + BYTES_PER_MARK_BYTE * marks_bytes)
