"""The quote of a call: its maximum cost, minimum cost and deadline, fixed before the hold. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.prices import Usage, seconds_cost_nanousd

if TYPE_CHECKING:
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.settlement import AttemptFacts, CallPricing

MIN_EMBEDDING_SECONDS = 1.0
"""An embedding is refused if the budget cannot pay for this time. A typical one takes a tenth of it."""


@dataclass(frozen=True, slots=True)
class TokenPricing:
    """Pricing by token, for chat completions."""

    price: Price
    prompt_tokens: int
    """The maximum tokens of the prompt, for all choices together."""

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        usage = attempt.counted_usage
        return None if usage is None else self.price.cost_nanousd(usage)

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        return self.price.cost_nanousd(Usage(self.prompt_tokens, attempt.bound_tokens))

    def earlier_nanousd(self, attempt: AttemptFacts) -> None:
        """A chat completion is one request."""


@dataclass(frozen=True, slots=True)
class TimePricing:
    """Pricing by second, for embeddings. The proxy measures how long the upstream worked on the call."""

    nanousd_per_second: int

    def reported_nanousd(self, attempt: AttemptFacts) -> int | None:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)

    def bound_nanousd(self, attempt: AttemptFacts) -> int:
        return seconds_cost_nanousd(attempt.seconds, self.nanousd_per_second)

    def earlier_nanousd(self, attempt: AttemptFacts) -> int | None:
        if not attempt.earlier_seconds:
            return None
        return seconds_cost_nanousd(attempt.earlier_seconds, self.nanousd_per_second)


@dataclass(frozen=True, slots=True)
class Quote:
    """The data that a hold is made from."""

    pricing: CallPricing
    requested_nanousd: int
    """The maximum cost of the call, which the hold reserves if the budget allows it."""
    minimum_nanousd: int
    """The cost of the smallest useful call. A smaller remaining budget refuses the call."""
    deadline_seconds: float


def quote_chat(
    chat: ChatRequest, price: Price, *, min_completion_tokens: int, deadline_seconds: float
) -> Quote:
    """Return the quote of a chat completion. An upstream may read the prompt again for each choice."""
    prompt_tokens = chat.prompt_tokens * chat.choices
    minimum_tokens = min(min_completion_tokens, chat.max_tokens) * chat.choices
    return Quote(
        TokenPricing(price, prompt_tokens),
        requested_nanousd=price.cost_nanousd(Usage(prompt_tokens, chat.max_tokens * chat.choices)),
        minimum_nanousd=price.cost_nanousd(Usage(prompt_tokens, minimum_tokens)),
        deadline_seconds=deadline_seconds,
    )


def affordable_tokens(chat: ChatRequest, price: Price, amount_nanousd: int) -> int:
    """Return the maximum tokens of each choice that an amount pays for, at most the requested maximum."""
    completion_tokens = price.completion_tokens_for(amount_nanousd, chat.prompt_tokens * chat.choices)
    return min(chat.max_tokens, completion_tokens // chat.choices)


def quote_embedding(nanousd_per_second: int, deadline_seconds: float) -> Quote:
    """Return the quote of an embedding. It is priced by time, so its deadline bounds its cost."""
    minimum_seconds = min(MIN_EMBEDDING_SECONDS, deadline_seconds)
    return Quote(
        TimePricing(nanousd_per_second),
        requested_nanousd=seconds_cost_nanousd(deadline_seconds, nanousd_per_second),
        minimum_nanousd=seconds_cost_nanousd(minimum_seconds, nanousd_per_second),
        deadline_seconds=deadline_seconds,
    )
