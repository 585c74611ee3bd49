"""The story of a call: reserve, call, settle."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ridges_proxy.billing.chat_request import upstream_body
from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.quote import affordable_tokens, quote_chat, quote_embedding
from ridges_proxy.billing.settlement import settlement_nanousd
from ridges_proxy.calls.estimate import estimated
from ridges_proxy.calls.stream_relay import relayed
from ridges_proxy.errors import ModelNotSupportedError
from ridges_proxy.ledger import Kind, RunUsage
from ridges_proxy.upstream import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.embedding_request import EmbeddingRequest
    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.quote import Quote
    from ridges_proxy.billing.settlement import CallPricing
    from ridges_proxy.calls.admission import Admission, Client, InFlightCall
    from ridges_proxy.calls.circuit_breaker import CircuitBreakers
    from ridges_proxy.calls.estimate import Estimate
    from ridges_proxy.calls.rate_limits import RateLimits
    from ridges_proxy.config import Settings
    from ridges_proxy.errors import ProxyError, RateLimitStatus
    from ridges_proxy.ledger import Hold, Ledger, Outbox, Run
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.upstream import BufferedBody, ChutesClient

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One call of one run: who, for whom, and what became of it, for the answer and the log."""

    run: Run
    client: Client
    model: str | None = None
    models: frozenset[str] | None = None
    """The only ones that the run may use; None: all that have a price."""
    calls_per_minute: int | None = None
    standing: RateLimitStatus | None = None
    """With the rate limit of the run that it reaches first."""
    attempt: Attempt = field(default_factory=Attempt)
    requested_nanousd: int = 0
    """What it asked the ledger to hold."""
    cost_nanousd: int = 0
    books: RunUsage | None = None
    """The run's books after this call; None until it has settled."""
    failure: ProxyError | None = None
    """What ended a stream whose status had been sent."""


class CallService:
    """Makes paid calls for runs. Every attempt has one hold, and every hold resolves once."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts, put together in one place
        self,
        settings: Settings,
        prices: PriceList,
        ledger: Ledger,
        outbox: Outbox,
        upstream: ChutesClient,
        admission: Admission,
        rate_limits: RateLimits,
        circuits: CircuitBreakers,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._prices = prices
        self._ledger = ledger
        self._outbox = outbox
        self._upstream = upstream
        self._admission = admission
        self._rate_limits = rate_limits
        self._circuits = circuits
        self._metrics = metrics
        self.settled_above_hold = 0
        """Calls that cost more than was held for them: the upstream went past its own limit."""
        self.held_nanousd = 0
        """For calls in flight."""

    def infer(self, call: Call, chat: ChatRequest) -> str:
        """Ask for a chat completion and return its whole text."""
        with self._paid_chat(call, chat) as (flight, body), self._wait(call, flight):
            return self._upstream.text(body, call.attempt)

    def complete(self, call: Call, chat: ChatRequest) -> BufferedBody:
        """Ask for a chat completion in one piece and return the upstream's JSON. The caller releases it."""
        answer = None
        try:
            with self._paid_chat(call, chat, stream=False) as (flight, body), self._wait(call, flight):
                answer = self._upstream.complete_json(body, call.attempt)
        except BaseException:
            _release(answer)
            raise
        return answer

    def relay(self, call: Call, chat: ChatRequest) -> Generator[bytes]:
        """Ask for a chat completion and yield its events as they come, heartbeats between them.

        The first piece is empty, as the answer has begun, or a heartbeat, where that takes too long. What
        fails before it is raised instead of it. The end is not among the pieces: it is the caller's to tell,
        as the books are settled by then.
        """
        with self._paid_chat(call, chat) as (flight, body):

            def read(put: Callable[[bytes], None]) -> None:
                with self._wait(call, flight):
                    self._upstream.relay(body, call.attempt, put, shows_usage=chat.shows_usage)

            yield from relayed(read, self._settings.heartbeat_seconds)

    def estimate(self, call: Call, chat: ChatRequest) -> Estimate:
        """What the same call would hold now, and whether it would be let in. Holds nothing, calls nobody."""
        price = self._price_of(call)
        quote = self._quote_chat(chat, price)
        books = self._ledger.usage(call.run.id) or RunUsage(call.run.id, call.run.budget_nanousd)
        books = replace(books, budget_nanousd=call.run.budget_nanousd)

        def check_admission() -> None:
            self._admission.check()
            self._circuits.check(str(call.model), call.run.id)

        return estimated(call.run, books, quote, price, chat, check_admission)

    def embed(self, call: Call, embedding: EmbeddingRequest) -> BufferedBody:
        """Ask for embeddings and return the upstream's JSON. The caller releases it."""
        self._check_embedding_model(call)
        quote = quote_embedding(
            self._settings.embedding_nanousd_per_second, self._settings.embedding_deadline_seconds
        )
        answer = None
        try:
            with self._paid(call, Kind.EMBEDDING, quote) as (hold, flight):
                share = hold.amount_nanousd / quote.requested_nanousd if quote.requested_nanousd else 1.0
                deadline_seconds = quote.deadline_seconds * share  # what the hold pays for
                with flight.waiting(deadline_seconds, call.client):
                    answer = self._upstream.embed(embedding.body, call.attempt, embedding.count)
        except BaseException:
            _release(answer)
            raise
        return answer

    @contextmanager
    def _paid_chat(
        self, call: Call, chat: ChatRequest, *, stream: bool = True
    ) -> Iterator[tuple[InFlightCall, bytes]]:
        """Pay for a chat completion, and say what to send: it asks for no more than the hold pays for."""
        price = self._price_of(call)
        with self._paid(call, Kind.INFERENCE, self._quote_chat(chat, price)) as (hold, flight):
            max_tokens = affordable_tokens(chat, price, hold.amount_nanousd)
            call.attempt.choices = chat.choices
            call.attempt.max_tokens = max_tokens
            yield flight, upstream_body(chat, price.upstream_model or call.model, max_tokens, stream=stream)

    def _quote_chat(self, chat: ChatRequest, price: Price) -> Quote:
        return quote_chat(
            chat,
            price,
            min_completion_tokens=self._settings.min_completion_tokens,
            deadline_seconds=self._settings.deadline_seconds,
        )

    def _check_embedding_model(self, call: Call) -> None:
        """There is one, and it has one price; a run that is limited to some models needs it among them."""
        only = self._settings.embedding_model
        call.model = call.model or only
        if call.model != only or (call.models is not None and only not in call.models):
            raise ModelNotSupportedError(call.model, [only] if call.models is None else sorted(call.models))

    def _wait(self, call: Call, flight: InFlightCall) -> AbstractContextManager[None]:
        return flight.waiting(self._settings.deadline_seconds, call.client)

    def _price_of(self, call: Call) -> Price:
        call.model = call.model or self._settings.default_model
        return self._prices.price_of(call.model, call.models)

    @contextmanager
    def _paid(self, call: Call, kind: Kind, quote: Quote) -> Iterator[tuple[Hold, InFlightCall]]:
        """Admit and reserve; settle by what the attempt has shown when the context ends, however it ends."""
        call.requested_nanousd = quote.requested_nanousd
        with self._admission.enter(call.run.id) as flight:
            self._circuits.check(str(call.model), call.run.id)  # an outage uses up nobody's rate limit
            call.standing = self._rate_limits.admit_run(call.run.id, call.calls_per_minute)
            with self._circuits.guard(str(call.model), call.run.id, call.attempt):
                hold = self._reserve(call, kind, quote)
                self.held_nanousd += hold.amount_nanousd
                try:
                    yield hold, flight
                finally:
                    self.held_nanousd -= hold.amount_nanousd
                    self._resolve(call, hold, quote.pricing)

    def _reserve(self, call: Call, kind: Kind, quote: Quote) -> Hold:
        # At its deadline a stream may be in the middle of one write, with one more to come.
        waits_seconds = 2 * self._settings.write_timeout_seconds + self._settings.settle_timeout_seconds
        return self._ledger.reserve(
            call.run,
            kind,
            quote.requested_nanousd,
            quote.minimum_nanousd,
            quote.deadline_seconds + waits_seconds,
        )

    def _resolve(self, call: Call, hold: Hold, pricing: CallPricing) -> None:
        owed = settlement_nanousd(call.attempt, pricing, hold.amount_nanousd)
        call.cost_nanousd = owed or 0
        call.books = self._outbox.resolve(hold, owed)
        self._note_excess(hold, call.cost_nanousd)
        if call.attempt.usage_disproved:
            logger.warning(
                "the upstream reported fewer tokens than it sent",
                extra={
                    "run": hold.run_id,
                    "model": call.model,
                    "cost_usd": usd_from_nanousd(call.cost_nanousd),
                },
            )

    def _note_excess(self, hold: Hold, owed: int) -> None:
        if owed > hold.amount_nanousd:
            self.settled_above_hold += 1
            self._metrics.under_estimates.inc()
            logger.error(
                "call cost more than its hold",
                extra={
                    "run": hold.run_id,
                    "hold_usd": usd_from_nanousd(hold.amount_nanousd),
                    "cost_usd": usd_from_nanousd(owed),
                },
            )


def _release(answer: BufferedBody | None) -> None:
    """Release the memory of an answer that cannot be returned because settling or leaving the wait failed."""
    if answer is not None:
        answer.release()
