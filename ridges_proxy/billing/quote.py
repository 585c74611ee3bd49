"""What a call may cost and how long it may take: fixed before anything is held. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.prices import Usage, seconds_cost_nanousd

if TYPE_CHECKING:
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.settlement import AttemptFacts, CallPricing

MIN_EMBEDDING_SECONDS = 1.0
"""An embedding is refused when the budget cannot pay for this long; the usual one takes a tenth of it."""


@dataclass(frozen=True, slots=True)
class TokenPricing:
    """By token: inference."""

    price: Price
    prompt_tokens: int
    """The bound of the prompt that was sent."""

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        return None if attempt.usage is None else self.price.cost_nanousd(attempt.usage)

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        return self.price.cost_nanousd(Usage(self.prompt_tokens, attempt.received_tokens))


@dataclass(frozen=True, slots=True)
class TimePricing:
    """By the second that the upstream had the call: embedding. The time is ours to measure."""

    nanousd_per_second: int

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)


@dataclass(frozen=True, slots=True)
class Quote:
    """All that a hold follows from; amounts in nano-USD."""

    pricing: CallPricing
    requested_nanousd: int
    minimum_nanousd: int
    deadline_seconds: float


def quote_chat(
    chat: ChatRequest, price: Price, *, min_completion_tokens: int, deadline_seconds: float
) -> Quote:
    """A chat completion's: the prompt counts for each choice, as an upstream may read it for each anew."""
    prompt_tokens = chat.prompt_tokens * chat.choices
    least_tokens = min(min_completion_tokens, chat.max_tokens) * chat.choices
    return Quote(
        TokenPricing(price, prompt_tokens),
        requested_nanousd=price.cost_nanousd(Usage(prompt_tokens, chat.max_tokens * chat.choices)),
        minimum_nanousd=price.cost_nanousd(Usage(prompt_tokens, least_tokens)),
        deadline_seconds=deadline_seconds,
    )


def affordable_tokens(chat: ChatRequest, price: Price, amount_nanousd: int) -> int:
    """The limit of each choice's tokens that an amount pays for; what the caller named, if that is less."""
    completion_tokens = price.completion_tokens_for(amount_nanousd, chat.prompt_tokens * chat.choices)
    return min(chat.max_tokens, completion_tokens // chat.choices)


def quote_embedding(nanousd_per_second: int, deadline_seconds: float) -> Quote:
    """An embedding's: it is paid by time, so its deadline is its bound."""
    least_seconds = min(MIN_EMBEDDING_SECONDS, deadline_seconds)
    return Quote(
        TimePricing(nanousd_per_second),
        requested_nanousd=seconds_cost_nanousd(deadline_seconds, nanousd_per_second),
        minimum_nanousd=seconds_cost_nanousd(least_seconds, nanousd_per_second),
        deadline_seconds=deadline_seconds,
    )
