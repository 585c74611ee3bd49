"""An estimate of a call: what it would hold now, without a hold and without a call to the upstream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridges_proxy.billing.quote import affordable_tokens
from ridges_proxy.calls.period_end import refusal_for
from ridges_proxy.errors import BudgetExhaustedError, ProxyError, RunClosedError
from ridges_proxy.ledger import Turn, granted_nanousd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.quote import Quote
    from ridges_proxy.ledger import Run, RunUsage


@dataclass(frozen=True, slots=True)
class Estimate:
    """The hold of a call and the tokens that it would pay for, or the error that would refuse the call."""

    run_usage: RunUsage
    quote: Quote
    hold_nanousd: int = 0
    max_tokens: int = 0
    """For each choice."""
    refusal: ProxyError | None = None
    """RunBusyError: it would wait for its turn first. PeriodFullError: until the end of a period."""
    waiting: int = 0
    """Calls of the run that would be served before it."""


def estimated(  # noqa: PLR0913, PLR0917 - a refusal depends on each of them
    run: Run,
    run_usage: RunUsage,
    quote: Quote,
    price: Price,
    chat: ChatRequest,
    waiting: int,
    check_admission: Callable[[], None],
    now: float,
) -> Estimate:
    """Estimate a chat completion at this time, in seconds since the epoch.

    `run_usage` is that of now, with the levels on which the call draws. Raises RunClosedError: a closed run
    gets no estimate.
    """
    if run_usage.closed:
        raise RunClosedError
    try:
        check_admission()
        turn = Turn(is_next=not waiting)
        amounts = quote.requested_nanousd, quote.minimum_nanousd
        hold_nanousd = granted_nanousd(run_usage, run, *amounts, turn, run_usage.levels)
    except BudgetExhaustedError as refusal:
        return Estimate(run_usage, quote, refusal=refusal_for(refusal, now), waiting=waiting)
    except ProxyError as refusal:
        return Estimate(run_usage, quote, refusal=refusal, waiting=waiting)
    return Estimate(run_usage, quote, hold_nanousd, affordable_tokens(chat, price, hold_nanousd))
