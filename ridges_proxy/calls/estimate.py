"""What a call would come to: no hold, no call, and only a look at who is in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.quote import affordable_tokens
from ridges_proxy.errors import ProxyError, RunClosedError
from ridges_proxy.ledger import granted_nanousd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.quote import Quote
    from ridges_proxy.ledger import Run, RunUsage


@dataclass(frozen=True, slots=True)
class Estimate:
    """What would be held, and what it would pay for; or why it would be refused. Amounts in nano-USD."""

    books: RunUsage
    quote: Quote
    hold_nanousd: int = 0
    max_tokens: int = 0
    """Of each choice."""
    refusal: ProxyError | None = None


def estimated(  # noqa: PLR0913, PLR0917 - all that a refusal depends on
    run: Run,
    books: RunUsage,
    quote: Quote,
    price: Price,
    chat: ChatRequest,
    check_admission: Callable[[], None],
) -> Estimate:
    """What a chat would hold by these books. Raises RunClosedError: nothing is estimated for a closed run."""
    if books.closed:
        raise RunClosedError
    try:
        check_admission()
        hold_nanousd = granted_nanousd(books, run, quote.requested_nanousd, quote.minimum_nanousd)
    except ProxyError as refusal:
        return Estimate(books, quote, refusal=refusal)
    return Estimate(books, quote, hold_nanousd, affordable_tokens(chat, price, hold_nanousd))
