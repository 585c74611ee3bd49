"""The story of a call: reserve, call, settle."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.errors import ModelNotSupportedError
from ridges_proxy.ledger import Kind, Run
from ridges_proxy.pricing import Usage, prompt_bound_tokens, seconds_cost_nanousd, usd_from_nanousd
from ridges_proxy.settlement import TimeTariff, TokenTariff, owed_nanousd
from ridges_proxy.upstream import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.admission import Admission, Client, Flight
    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Hold, Ledger, RunUsage
    from ridges_proxy.pricing import Price
    from ridges_proxy.settlement import Tariff
    from ridges_proxy.upstream import ChutesClient

SETTLE_SECONDS = 30.0
"""How long after its deadline a call may still settle before the sweep takes its hold for abandoned."""

MIN_EMBEDDING_SECONDS = 1.0
"""An embedding is refused when the budget cannot pay for this long; the usual one takes a tenth of it."""

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


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call may cost and how long it may take: fixed before anything is held."""

    kind: Kind
    tariff: Tariff
    want_nanousd: int
    floor_nanousd: int
    deadline_seconds: float


class Calls:
    """Makes paid calls for runs. Every attempt has one hold, and every hold resolves once."""

    def __init__(
        self, settings: Settings, ledger: Ledger, upstream: ChutesClient, admission: Admission
    ) -> None:
        self._settings = settings
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
        terms = self._inference_terms(price, prompt_tokens)
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
        terms = self._embedding_terms()
        with self._paid(call, terms) as (hold, flight):
            share = hold.amount_nanousd / terms.want_nanousd if terms.want_nanousd else 1.0
            deadline_seconds = terms.deadline_seconds * share  # what the hold pays for
            with flight.waiting(deadline_seconds, call.client):
                return self._upstream.embed(orjson.dumps({"inputs": text}), call.attempt)

    def _price_of(self, call: Call) -> Price:
        prices = self._settings.model_prices
        call.model = call.model or self._settings.default_model
        if call.model not in prices:
            raise ModelNotSupportedError(call.model, list(prices))
        return prices[call.model]

    def _inference_terms(self, price: Price, prompt_tokens: int) -> Terms:
        settings = self._settings
        return Terms(
            Kind.INFERENCE,
            TokenTariff(price, prompt_tokens),
            want_nanousd=price.cost_nanousd(Usage(prompt_tokens, settings.max_tokens)),
            floor_nanousd=price.cost_nanousd(Usage(prompt_tokens, settings.min_completion_tokens)),
            deadline_seconds=settings.deadline_seconds,
        )

    def _embedding_terms(self) -> Terms:
        rate = self._settings.embedding_nanousd_per_second
        most_seconds = self._settings.embedding_deadline_seconds
        return Terms(
            Kind.EMBEDDING,
            TimeTariff(rate),
            want_nanousd=seconds_cost_nanousd(most_seconds, rate),
            floor_nanousd=seconds_cost_nanousd(min(MIN_EMBEDDING_SECONDS, most_seconds), rate),
            deadline_seconds=most_seconds,
        )

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
