"""A model of the upstream: the tokens of a prompt, the answer to it, and the price of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from bench.utilisation.texts import BYTES_PER_TOKEN, Writer
from ridges_proxy.billing.prices import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.utilisation.tokenizers import Tokenizer
    from ridges_proxy.billing.prices import Price

Message = dict[str, str]

DEFAULT_MAX_TOKENS = 8_192
"""The default of OPENAI_MAX_TOKENS, for calls without `max_tokens`."""

MIN_COMPLETION_TOKENS = 16
"""The default of the setting of this name."""

TOKENS_AROUND_MESSAGE = 3
"""ChatML's: the special tokens before and behind a message, and a line break."""

_ORDER = re.compile(r"\[answer: (\d+) tokens, (\d+) of them reasoning, in (\d+) ms\]$")


def order(text: str, tokens: int, *, reasoning_tokens: int = 0, milliseconds: int = 0) -> str:
    """A text that tells the model how long its answer is, and how long it takes."""
    return f"{text}\n[answer: {tokens} tokens, {reasoning_tokens} of them reasoning, in {milliseconds} ms]"


class Answer(NamedTuple):
    """An answer of the model."""

    reasoning: str
    content: str
    tokens: int
    """Of both texts, and the token that ends the answer."""
    is_cut: bool
    """Whether max_tokens ended it."""
    seconds: float


@dataclass(frozen=True)
class Model:
    """A model with a real tokenizer, a plain chat template (ChatML) and a price."""

    name: str
    tokenizer: Tokenizer
    price: Price

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """The tokens of the rendered prompt. Special tokens separate messages, so their counts add up."""
        opening = 1 + self.tokenizer.count("assistant\n")
        return opening + sum(
            TOKENS_AROUND_MESSAGE + self.tokenizer.count(f"{each['role']}\n{each['content']}")
            for each in messages
        )

    def answer(self, messages: Sequence[Message], max_tokens: int) -> Answer:
        """The answer that the last message orders. It is cut at max_tokens, its reasoning first."""
        order_text = messages[-1]["content"]
        reasoning, content, milliseconds = _texts(order_text)
        reasoning_tokens = self.tokenizer.count(reasoning) if reasoning else 0
        content_tokens = self.tokenizer.count(content) + 1
        tokens = reasoning_tokens + content_tokens
        if is_cut := tokens > max_tokens:
            tokens = max_tokens
            reasoning = _share(reasoning, max_tokens, reasoning_tokens)
            content = _share(content, max(0, max_tokens - reasoning_tokens), content_tokens)
        return Answer(reasoning, content, tokens, is_cut, milliseconds / 1000)

    def cost_nanousd(self, prompt_tokens: int, completion_tokens: int) -> int:
        return self.price.cost_nanousd(Usage(prompt_tokens, completion_tokens))

    def minimum_nanousd(self, call: Call) -> int:
        """The cost of the prompt and the shortest useful answer."""
        tokens = min(MIN_COMPLETION_TOKENS, call.allowed_tokens)
        return self.cost_nanousd(self.prompt_tokens(call.messages), tokens)


@dataclass(frozen=True)
class Call:
    """A call that an agent makes."""

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    is_streamed: bool = True

    @property
    def allowed_tokens(self) -> int:
        """The maximum tokens of its answer."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens


@cache
def _texts(order_text: str) -> tuple[str, str, int]:
    """The reasoning, the content and the milliseconds that an order asks for."""
    found = _ORDER.search(order_text)
    assert found is not None, "the last message does not say how long the answer is"
    tokens, reasoning_tokens, milliseconds = map(int, found.groups())
    writer = Writer(order_text)
    reasoning = writer.english(reasoning_tokens * BYTES_PER_TOKEN)
    return reasoning, writer.mixed((tokens - reasoning_tokens) * BYTES_PER_TOKEN), milliseconds


def _share(text: str, part: int, whole: int) -> str:
    return text[: len(text) * part // whole] if part < whole else text
