"""The story of a call: reserve, call, settle."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.pricing import prompt_bound_tokens, usd_from_nanousd
from ridges_proxy.settlement import owed_nanousd
from ridges_proxy.terms import embedding_terms, inference_terms
from ridges_proxy.upstream import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.admission import Admission, Client, Flight
    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Hold, Ledger, Run, RunUsage
    from ridges_proxy.price_list import PriceList
    from ridges_proxy.pricing import Price
    from ridges_proxy.terms import Tariff, Terms
    from ridges_proxy.upstream import ChutesClient

SETTLE_SECONDS = 30.0
"""How long after its deadline a call may still settle before the sweep takes its hold for abandoned."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One call of one run: who, for whom, and what became of it, for the answer and the log."""

    run: Run
    client: Client
    model: str | None = None
    attempt: Attempt = field(default_factory=Attempt)
    cost_nanousd: int = 0
    books: RunUsage | None = None
    """The run's books after this call; None until it has settled."""


class Calls:
    """Makes paid calls for runs. Every attempt has one hold, and every hold resolves once."""

    def __init__(
        self,
        settings: Settings,
        prices: PriceList,
        ledger: Ledger,
        upstream: ChutesClient,
        admission: Admission,
    ) -> None:
        self._settings = settings
        self._prices = prices
        self._ledger = ledger
        self._upstream = upstream
        self._admission = admission
        self.settled_above_hold = 0
        """Calls that cost more than was held for them: the upstream went past its own limit."""

    def infer(self, call: Call, messages: list[dict[str, str]], temperature: float) -> str:
        """Ask for a chat completion and return its whole text."""
        price = self._price_of(call)
        prompt = orjson.dumps(messages)
        prompt_tokens = prompt_bound_tokens(prompt, len(messages))
        terms = inference_terms(self._settings, price, prompt_tokens)
        with self._paid(call, terms) as (hold, flight):
            affordable_tokens = price.completion_tokens_for(hold.amount_nanousd, prompt_tokens)
            call.attempt.max_tokens = min(self._settings.max_tokens, affordable_tokens)
            body = {
                "model": call.model,
                "messages": orjson.Fragment(prompt),
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": call.attempt.max_tokens,
                "temperature": temperature,
            }
            with flight.waiting(terms.deadline_seconds, call.client):
                return self._upstream.chat(orjson.dumps(body), call.attempt)

    def embed(self, call: Call, text: str) -> bytes:
        """Ask for an embedding and return the upstream's JSON as it came."""
        terms = embedding_terms(self._settings)
        with self._paid(call, terms) as (hold, flight):
            share = hold.amount_nanousd / terms.want_nanousd if terms.want_nanousd else 1.0
            deadline_seconds = terms.deadline_seconds * share  # what the hold pays for
            with flight.waiting(deadline_seconds, call.client):
                return self._upstream.embed(orjson.dumps({"inputs": text}), call.attempt)

    def _price_of(self, call: Call) -> Price:
        call.model = call.model or self._settings.default_model
        return self._prices.price_of(call.model)

    @contextmanager
    def _paid(self, call: Call, terms: Terms) -> Iterator[tuple[Hold, Flight]]:
        """Admit and reserve; settle by what the attempt has shown when the context ends, however it ends."""
        with self._admission.enter(call.run.id) as flight:
            hold = self._ledger.reserve(
                call.run,
                terms.kind,
                terms.want_nanousd,
                terms.floor_nanousd,
                terms.deadline_seconds + SETTLE_SECONDS,
            )
            try:
                yield hold, flight
            finally:
                self._resolve(call, hold, terms.tariff)

    def _resolve(self, call: Call, hold: Hold, tariff: Tariff) -> None:
        owed = owed_nanousd(call.attempt, tariff, hold.amount_nanousd)
        if owed is None:
            call.books = self._ledger.release(hold)
        else:
            call.cost_nanousd = owed
            call.books = self._ledger.settle(hold, owed)
            self._note_excess(hold, owed)
        if call.books is None:
            logger.error("hold was resolved by the sweep", extra={"run": hold.run_id, "hold": hold.id})

    def _note_excess(self, hold: Hold, owed: int) -> None:
        if owed > hold.amount_nanousd:
            self.settled_above_hold += 1
            logger.error(
                "call cost more than its hold",
                extra={
                    "run": hold.run_id,
                    "hold_usd": usd_from_nanousd(hold.amount_nanousd),
                    "cost_usd": usd_from_nanousd(owed),
                },
            )
