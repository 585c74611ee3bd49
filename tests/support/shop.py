"""Calls with the real ledger and the real admission; only the upstream is played."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest
from gevent.event import Event

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Usage
from ridges_proxy.calls.admission import Admission
from ridges_proxy.calls.circuit_breaker import CircuitBreakers
from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.calls.service import Call, CallService
from ridges_proxy.errors import ClientGoneError, LedgerUnavailableError
from ridges_proxy.ledger import Hold, MemoryLedger, Outbox, Run, RunUsage
from ridges_proxy.runtime.sliding_window import SlidingWindows
from ridges_proxy.telemetry.metrics import Metrics
from tests.support.app import settings_of
from tests.support.buffered import buffered
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ridges_proxy.upstream import Attempt, BufferedBody, ChutesClient

    Put = Callable[[bytes], None]
    Script = Callable[[Attempt, Put], None]

MODEL = "a-model"
INPUT_NANOUSD, OUTPUT_NANOUSD = 300, 1_100
"""By token."""
PRICES = '{"a-model": {"input": 0.3, "output": 1.1}, "free-model": 0}'

MESSAGES = [{"role": "user", "content": "hi"}]
PROMPT_TOKENS = len(b'[{"role":"user","content":"hi"}]') + 16 + 256
PROMPT_NANOUSD = PROMPT_TOKENS * INPUT_NANOUSD
MAX_TOKENS = 100
FULL_HOLD = PROMPT_NANOUSD + MAX_TOKENS * OUTPUT_NANOUSD
CAP_NANOUSD = 1_000_000_000
USAGE = Usage(20, 30)
USAGE_NANOUSD = 20 * INPUT_NANOUSD + 30 * OUTPUT_NANOUSD


def chat_of(max_tokens: int = MAX_TOKENS, choices: int = 1) -> ChatRequest:
    return ChatRequest.of(MESSAGES, {}, max_tokens, choices=choices)


class FakeUpstream:
    """Plays the script, and notes what it was sent."""

    def __init__(self) -> None:
        self.script: Script = answers()
        self.bodies: list[bytes] = []
        self.closed = 0

    def relay(self, body: bytes, attempt: Attempt, put: Put, *, shows_usage: bool) -> None:
        assert shows_usage is False
        self.bodies.append(body)
        try:
            self.script(attempt, put)
        finally:
            self.closed += 1

    def complete_json(self, body: bytes, attempt: Attempt) -> BufferedBody:
        self.relay(body, attempt, lambda _: None, shows_usage=False)
        return buffered(b'{"whole":1}')


class CountingLedger(MemoryLedger):
    """Notes how each hold is resolved."""

    def __init__(self) -> None:
        super().__init__(1200, Clock())
        self.resolved: list[tuple[str, str, int]] = []
        self.fails = False

    def settle(self, hold: Hold, cost_nanousd: int) -> RunUsage | None:
        self.resolved.append(("settle", hold.id, cost_nanousd))
        if self.fails:
            raise LedgerUnavailableError
        return super().settle(hold, cost_nanousd)

    def release(self, hold: Hold) -> RunUsage | None:
        self.resolved.append(("release", hold.id, 0))
        if self.fails:
            raise LedgerUnavailableError
        return super().release(hold)


class PatientClient:
    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:  # noqa: ARG002 - it never uses it
        yield

    def hang_up(self) -> None:
        raise AssertionError("it reads")


class GoneClient(PatientClient):
    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:
        interrupt(ClientGoneError())
        yield


class Shop:
    """Calls and all that they are made of."""

    def __init__(self, **overrides: str) -> None:
        configured = settings_of(**{"MODEL_PRICES": PRICES, "DEFAULT_MODEL": MODEL, **overrides})
        self._most_in_flight = configured.max_concurrent_calls_per_run
        self.ledger = CountingLedger()
        self.admission = Admission(configured.max_concurrent_calls)
        self.upstream = FakeUpstream()
        # The fake has only what calls use.
        upstream = cast("ChutesClient", self.upstream)
        prices = PriceList(configured.model_prices)
        self.outbox = Outbox(self.ledger)
        limits, circuits, metrics = (
            RateLimits(SlidingWindows(), None, None),
            CircuitBreakers(10, 10.0),
            Metrics(),
        )
        self.calls = CallService(
            configured, prices, self.ledger, self.outbox, upstream, self.admission, limits, circuits, metrics
        )

    def call(self, cap: int = CAP_NANOUSD, model: str | None = None) -> Call:
        return Call(Run("run", cap, most_in_flight=self._most_in_flight), PatientClient(), model)

    def relay(self, call: Call | None = None, chat: ChatRequest | None = None) -> Generator[bytes]:
        return self.calls.relay(call or self.call(), chat or chat_of())

    def books(self) -> RunUsage:
        books = self.ledger.usage("run")
        assert books
        return books

    def settled_once(self) -> int | None:
        """What the one hold was settled at, None if it was released; nothing is left in flight."""
        ((verb, _, cost),) = self.ledger.resolved
        books = self.books()
        assert (books.held_nanousd, books.in_flight, self.admission.in_flight) == (0, 0, 0)
        assert books.spent_nanousd == cost
        assert self.upstream.closed == len(self.upstream.bodies)
        return cost if verb == "settle" else None


def answers(
    events: int = 3, error: BaseException | None = None, *, hangs: bool = False, **facts: object
) -> Script:
    """A 200 and so many events of two tokens each; then the facts are set, and the error raised."""

    def script(attempt: Attempt, put: Put) -> None:
        attempt.sent = attempt.answering = True
        put(b"")
        for number in range(events):
            attempt.received_tokens += 2
            put(b"data: %d\n\n" % number)
        for name, value in facts.items():
            setattr(attempt, name, value)
        if hangs:
            Event().wait(30)
            pytest.fail("nothing interrupted the wait")
        if error:
            raise error

    return script


def refuses(error: BaseException, **facts: object) -> Script:
    def script(attempt: Attempt, put: Put) -> None:  # noqa: ARG001 - nothing comes
        for name, value in facts.items():
            setattr(attempt, name, value)
        raise error

    return script


def seen(tokens: int) -> int:
    return PROMPT_NANOUSD + tokens * OUTPUT_NANOUSD
