"""The steps of a call: admit, reserve, call the upstream, settle.

`CallService._paid` runs these steps. The public methods differ in the quote, in the request, and in the form
of the answer.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import gevent

from ridges_proxy.billing.chat_request import upstream_body
from ridges_proxy.billing.learned_counts import rendered_fields
from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.billing.prices import Usage
from ridges_proxy.billing.quote import affordable_tokens, quote_chat, quote_embedding
from ridges_proxy.billing.settlement import settlement_nanousd
from ridges_proxy.calls.estimate import estimated
from ridges_proxy.calls.hold_wait import finished
from ridges_proxy.calls.period_end import refusal_for
from ridges_proxy.calls.refused_amounts import refused_amounts
from ridges_proxy.calls.run_levels import usage_before_call
from ridges_proxy.calls.stream_relay import relayed
from ridges_proxy.errors import (
    BodyQueueError,
    BudgetExhaustedError,
    DrainingError,
    ModelNotSupportedError,
    RunBusyError,
    TooManyInFlightError,
    UpstreamDownError,
)
from ridges_proxy.ledger import Kind
from ridges_proxy.runtime.cooperative import let_queued_run
from ridges_proxy.upstream import LARGE_BYTES, event_of, released_on_error, with_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.billing.budgets import Budgets
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.billing.embedding_request import EmbeddingRequest
    from ridges_proxy.billing.learned_counts import LearnedCounts, PromptCounts
    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.billing.quote import Quote
    from ridges_proxy.billing.settlement import CallPricing
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.calls.call import Call
    from ridges_proxy.calls.circuit_breaker import CircuitBreakers
    from ridges_proxy.calls.estimate import Estimate
    from ridges_proxy.calls.hold_wait import HoldWaits
    from ridges_proxy.calls.in_flight import InFlightCall
    from ridges_proxy.calls.rate_limits import RateLimits
    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Hold, Ledger, Outbox, Run, Ticket
    from ridges_proxy.runtime.turns import Turns
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.upstream import AnswerMessage, BufferedBody, ChutesClient

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(kw_only=True, eq=False)
class CallService:
    """Makes paid calls for runs. Each attempt has one hold, and each hold resolves once."""

    settings: Settings
    prices: PriceList
    ledger: Ledger
    outbox: Outbox
    upstream: ChutesClient
    admission: Admission
    hold_waits: HoldWaits
    rate_limits: RateLimits
    circuits: CircuitBreakers
    budgets: Budgets
    learned: LearnedCounts
    turns: Turns
    metrics: Metrics
    clock: Callable[[], float] = time.time
    """The time that decides about the periods of budgets, in seconds since the epoch."""
    settled_above_hold: int = 0
    """Calls that cost more than their hold: the upstream exceeded the limit that it was given."""
    held_nanousd: int = 0
    """The sum of the holds of calls in flight."""

    def infer(self, call: Call, chat: ChatRequest) -> str:
        """Request a chat completion and return its complete text."""
        with self._paid_chat(call, chat) as (in_flight, body), self._waiting(call, in_flight):
            return self.upstream.text(body, call.attempt)

    def infer_message(self, call: Call, chat: ChatRequest) -> AnswerMessage:
        """Request a chat completion and return its complete message: the text and the tool calls."""
        with self._paid_chat(call, chat) as (in_flight, body), self._waiting(call, in_flight):
            return self.upstream.message(body, call.attempt)

    def complete(self, call: Call, chat: ChatRequest) -> BufferedBody:
        """Request a chat completion in one piece and return the upstream's JSON. The caller releases it."""
        with released_on_error() as keep:
            with self._paid_chat(call, chat, stream=False) as (in_flight, body):
                with self._waiting(call, in_flight):
                    answer = keep(self.upstream.complete_json(body, call.attempt))
                record = partial(self.upstream.record_json, answer, call.attempt)
                self.read(call, len(answer.content), record)
            if chat.shows_cost:
                answer.content = self._with_cost(call, answer.content)
            return answer

    def relay(self, call: Call, chat: ChatRequest) -> Generator[bytes]:
        """Request a chat completion and yield its events as they arrive, with heartbeats between them.

        The first piece has the first event of the answer, or is a heartbeat if that takes too long. The wait
        for the hold counts too. A failure before the first piece is raised in its place. The caller has to
        add the event that ends the stream: the call has settled by then, also before the event with its cost.
        """
        usage: bytes | None = None
        price = self._choose_price(call)
        with self._bounded(call, chat, price) as bounded:
            quote = self._quote_chat(call, bounded, price)
            with self._admitted(call, quote) as in_flight:
                hold = yield from self._hold(call, Kind.INFERENCE, quote, in_flight)
                with self._settled(call, hold, quote):
                    body = _body(call, bounded, price, hold)

                    def read(put: Callable[[bytes], None]) -> None:
                        nonlocal usage
                        with self._waiting(call, in_flight):
                            usage = self.upstream.relay(
                                body,
                                call.attempt,
                                put,
                                shows_usage=chat.shows_usage,
                                shows_chunk_usage=chat.shows_chunk_usage,
                                keeps_usage=chat.shows_cost,
                            )

                    yield from relayed(read, self.settings.heartbeat_seconds)
        if usage is not None:
            yield event_of(self._with_cost(call, usage) if chat.shows_cost else usage)

    def embed(self, call: Call, embedding: EmbeddingRequest) -> BufferedBody:
        """Request embeddings and return the upstream's JSON. The caller releases it.

        A list of many texts takes several requests, which have one hold and one deadline.
        """
        self._choose_embedding_model(call)
        quote = quote_embedding(
            self.settings.embedding_nanousd_per_second, self.settings.embedding_deadline_seconds
        )
        with released_on_error() as keep, self._paid(call, Kind.EMBEDDING, quote) as (hold, in_flight):
            # A smaller hold pays for less time.
            share = hold.amount_nanousd / quote.requested_nanousd if quote.requested_nanousd else 1.0
            with in_flight.waiting(quote.deadline_seconds * share, call.client):
                return keep(self.upstream.embed(embedding.bodies, call.attempt, sum(embedding.counts)))

    def read(self, call: Call, size_bytes: int, step: Callable[[], T]) -> T:
        """Run a step that reads a paid answer. A large answer is read in a thread, in the caller's turn."""
        return self.turns.do_anyway(call.turn, step) if size_bytes > LARGE_BYTES else step()

    def estimate(self, call: Call, chat: ChatRequest) -> Estimate:
        """Estimate the hold of a chat completion, or the error that would refuse it. Makes no hold."""
        price = self._choose_price(call)
        _, chat = self._counted(call, chat, price)
        quote = self._quote_chat(call, chat, price)
        run = self._in_budgets(call, Kind.INFERENCE)
        usage = usage_before_call(run, self.ledger)

        def check_admission() -> None:
            self.admission.check()
            self.circuits.check(str(call.model), call.run.id)

        waiting = self.ledger.waiting(run.id)
        return estimated(run, usage, quote, price, chat, waiting, check_admission, self.clock())

    @contextmanager
    def _paid(self, call: Call, kind: Kind, quote: Quote) -> Iterator[tuple[Hold, InFlightCall]]:
        """Admit the call and reserve its hold; settle the hold when the context ends, however it ends."""
        with self._admitted(call, quote) as in_flight:
            hold = finished(self._hold(call, kind, quote, in_flight))
            with self._settled(call, hold, quote):
                yield hold, in_flight

    @contextmanager
    def _paid_chat(
        self, call: Call, chat: ChatRequest, *, stream: bool = True
    ) -> Iterator[tuple[InFlightCall, bytes]]:
        """Pay for a chat completion. Yields the body to send."""
        price = self._choose_price(call)
        with (
            self._bounded(call, chat, price) as bounded,
            self._paid(call, Kind.INFERENCE, self._quote_chat(call, bounded, price)) as (hold, in_flight),
        ):
            yield in_flight, _body(call, bounded, price, hold, stream=stream)

    @contextmanager
    def _bounded(self, call: Call, chat: ChatRequest, price: Price) -> Iterator[ChatRequest]:
        """Yield the request with the bound that follows from learned counts; then learn from its answer."""
        counts, chat = self._counted(call, chat, price)
        try:
            yield chat
        finally:
            self._learn(call, chat, counts)

    def _counted(self, call: Call, chat: ChatRequest, price: Price) -> tuple[PromptCounts, ChatRequest]:
        """Return what is known of the prompt, and the request with the bound that follows from it."""
        model = f"{self.settings.chutes_base_url} {price.upstream_model or call.model}".encode()

        def count() -> tuple[PromptCounts, ChatRequest]:
            counts = self.learned.of(chat.prompt, model, rendered_fields(chat.fields), call.run.id)
            return counts, replace(chat, prompt_tokens=counts.bound_tokens())

        return self.turns.do(call.turn, count, watch=call.client.watch) if call.needs_time else count()

    def _learn_in_turn(self, call: Call, learn: Callable[[], None]) -> None:
        """Learn at once from a small prompt, else in the run's turn, for which the answer does not wait."""

        def learn_large() -> None:
            with suppress(BodyQueueError, DrainingError):  # the next answer gives this count, too
                self.turns.do(call.turn, learn)

        if call.needs_time:
            gevent.spawn(learn_large)
        else:
            learn()

    def _learn(self, call: Call, chat: ChatRequest, counts: PromptCounts) -> None:
        """Learn the prompt's count from a complete answer. A report of several choices may count it often.

        If only a total is reported, or a prompt without its cached tokens, the rest counts as completion.
        Then the prompt is 0, or the completion is above its maximum.
        """
        attempt = call.attempt
        if not attempt.complete or attempt.usage is None or attempt.usage_disproved or chat.choices > 1:
            return
        if attempt.usage.prompt_tokens <= chat.prompt_tokens:
            if attempt.usage.prompt_tokens and attempt.usage.completion_tokens <= (attempt.max_tokens or 0):
                self._learn_in_turn(call, partial(counts.learn, attempt.usage.prompt_tokens))
            return
        counts.forget_model()
        self.metrics.prompts_above_bound.inc()
        logger.error(
            "the prompt had more tokens than its bound",
            extra={
                "run": call.run.id,
                "model": call.model,
                "bound_tokens": chat.prompt_tokens,
                "reported_tokens": attempt.usage.prompt_tokens,
            },
        )

    @contextmanager
    def _admitted(self, call: Call, quote: Quote) -> Iterator[InFlightCall]:
        """Admit the call for as long as the context is open."""
        call.requested_nanousd, call.minimum_nanousd = quote.requested_nanousd, quote.minimum_nanousd
        with self.admission.enter(call.run.id) as in_flight:
            # Checked before the rate limit: calls that are refused in an outage must not use it up.
            self.circuits.check(str(call.model), call.run.id)
            yield in_flight

    @contextmanager
    def _settled(self, call: Call, hold: Hold, quote: Quote) -> Iterator[None]:
        """Settle the hold when the context ends, and let the calls that waited for it go."""
        self.held_nanousd += hold.amount_nanousd
        try:
            with self.circuits.guard(str(call.model), call.run.id, call.attempt):
                yield
            let_queued_run()
        except UpstreamDownError:  # the breaker has opened since the call was admitted: it is not made
            self.rate_limits.take_back(call.rate_limit_hits)
            raise
        finally:
            self.held_nanousd -= hold.amount_nanousd
            self._settle(call, hold, quote.pricing)
            self.hold_waits.wake(call.run.id, call.run_usage)

    def _waiting(self, call: Call, in_flight: InFlightCall) -> AbstractContextManager[None]:
        return in_flight.waiting(self.settings.deadline_seconds, call.client)

    def _with_cost(self, call: Call, answer: bytes) -> bytes:
        """Return the answer of a settled call with its cost, which is what the ledger was told."""
        unreported = Usage(call.prompt_tokens, call.attempt.bound_tokens)
        return self.read(call, len(answer), partial(with_cost, answer, call.cost_nanousd, unreported))

    def _choose_price(self, call: Call) -> Price:
        call.model = call.model or self.settings.default_model
        price = self.prices.price_of(call.model, call.models)
        call.upstream_model = price.upstream_model
        return price

    def _quote_chat(self, call: Call, chat: ChatRequest, price: Price) -> Quote:
        return quote_chat(
            chat,
            price,
            min_completion_tokens=max(self.settings.min_completion_tokens, call.min_tokens),
            deadline_seconds=self.settings.deadline_seconds,
        )

    def _choose_embedding_model(self, call: Call) -> None:
        """Set the call's model to the only embedding model. Raises ModelNotSupportedError."""
        only = self.settings.embedding_model
        call.model = call.model or only
        if call.model != only or (call.models is not None and only not in call.models):
            raise ModelNotSupportedError(
                call.model, [only] if call.models is None or only in call.models else []
            )

    def _hold(
        self, call: Call, kind: Kind, quote: Quote, in_flight: InFlightCall
    ) -> Generator[bytes, None, Hold]:
        """Return the hold of the call. Yields heartbeats while other calls hold what it needs."""
        let_queued_run()
        # After its deadline a stream may still be in one write, and have one more to make.
        margin_seconds = 2 * self.settings.write_timeout_seconds + self.settings.settle_timeout_seconds
        minimum_nanousd = quote.minimum_nanousd
        expires_in_seconds = quote.deadline_seconds + margin_seconds

        def reserve(ticket: Ticket | None) -> Hold:
            run = self._in_budgets(call, kind)
            amounts = quote.requested_nanousd, minimum_nanousd
            return self.ledger.reserve(run, kind, *amounts, expires_in_seconds, ticket, call.model or "")

        # A call that gets no hold is not made, so it uses up no rate limit.
        hits, waits = call.rate_limit_hits, self.hold_waits
        with self.rate_limits.admitted_run(call.run.id, call.calls_per_minute, hits) as call.rate_limit:
            try:
                return (yield from waits.hold(call.run, minimum_nanousd, reserve, in_flight, call.client))
            except (BudgetExhaustedError, RunBusyError, TooManyInFlightError) as refusal:
                call.refused = refused_amounts(refusal, self._in_budgets(call, kind), self.ledger)
                if not isinstance(refusal, BudgetExhaustedError):
                    raise
                refusal.keeps_final_part = refusal.is_of_run and call.run.reserved_nanousd > 0
                raise refusal_for(refusal, self.clock()) from None
            finally:
                call.hold_wait_seconds = in_flight.hold_wait_seconds

    def _in_budgets(self, call: Call, kind: Kind) -> Run:
        """Return the run with the budgets above it that the call draws on at this moment."""
        asked = call.model, kind, self.clock(), call.upstream_model
        levels = self.budgets.levels_of(call.run.groups, *asked)
        return replace(call.run, levels=levels) if levels else call.run

    def _settle(self, call: Call, hold: Hold, pricing: CallPricing) -> None:
        """Settle or release the hold, by the facts of the attempt."""
        cost_nanousd = settlement_nanousd(call.attempt, pricing, hold.amount_nanousd)
        call.cost_nanousd = cost_nanousd or 0
        usage = self.outbox.resolve(hold, cost_nanousd, call.record)
        if usage and usage.budget_nanousd != call.run.budget_nanousd:
            usage = replace(usage, budget_nanousd=call.run.budget_nanousd)
        call.run_usage = usage
        if call.cost_nanousd > hold.amount_nanousd:
            self._record_cost_above_hold(call, hold)
        if call.attempt.usage_disproved:
            logger.warning(
                "the upstream reported fewer tokens than it sent",
                extra={
                    "run": hold.run_id,
                    "model": call.model,
                    "cost_usd": usd_from_nanousd(call.cost_nanousd),
                },
            )

    def _record_cost_above_hold(self, call: Call, hold: Hold) -> None:
        self.settled_above_hold += 1
        self.metrics.under_estimates.inc()
        logger.error(
            "call cost more than its hold",
            extra={
                "run": hold.run_id,
                "hold_usd": usd_from_nanousd(hold.amount_nanousd),
                "cost_usd": usd_from_nanousd(call.cost_nanousd),
            },
        )


def _body(call: Call, chat: ChatRequest, price: Price, hold: Hold, *, stream: bool = True) -> bytes:
    """Return the body to send. Its `max_tokens` is what the hold pays for."""
    max_tokens = affordable_tokens(chat, price, hold.amount_nanousd)
    call.attempt.choices = chat.choices
    call.attempt.max_tokens = max_tokens
    call.attempt.hides_tokens = chat.hides_tokens
    call.attempt.upstream_model = price.upstream_model or call.model
    call.prompt_tokens = chat.prompt_tokens * chat.choices
    return upstream_body(chat, call.attempt.upstream_model, max_tokens, stream=stream)
