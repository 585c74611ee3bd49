"""A call service with a real ledger and a real admission. Only the upstream is a fake."""

from __future__ import annotations

from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, cast

import orjson
import pytest
from gevent.event import Event

from ridges_proxy.billing.budgets import Budgets
from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.billing.learned_counts import LearnedCounts
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Usage
from ridges_proxy.calls.admission import Admission
from ridges_proxy.calls.call import Call
from ridges_proxy.calls.circuit_breaker import CircuitBreakers
from ridges_proxy.calls.hold_wait import HoldWaits
from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.calls.service import CallService
from ridges_proxy.errors import ClientGoneError, LedgerUnavailableError
from ridges_proxy.ledger import CallRecord, Hold, MemoryLedger, Outbox, Run, RunUsage
from ridges_proxy.runtime.shared_table import SharedTable
from ridges_proxy.runtime.sliding_window import SlidingWindows
from ridges_proxy.runtime.turns import Turns
from ridges_proxy.telemetry.metrics import Metrics
from tests.support.app import settings_of
from tests.support.buffered import buffered
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from ridges_proxy.config import Settings
    from ridges_proxy.upstream import Attempt, BufferedBody, ChutesClient

    Put = Callable[[bytes], None]
    Script = Callable[[Attempt, Put], None]

MODEL = "a-model"
INPUT_NANOUSD, OUTPUT_NANOUSD = 300, 1_100
"""For one token."""
PRICES = '{"a-model": {"input": 0.3, "output": 1.1}, "free-model": 0}'
SECOND_NANOUSD = 100_000
"""For one second of an embedding."""

MESSAGES = [{"role": "user", "content": "hi"}]
PROMPT_TOKENS = len(b'[{"role":"user","content":"hi"}]') + 16 + 256
PROMPT_NANOUSD = PROMPT_TOKENS * INPUT_NANOUSD
MAX_TOKENS = 100
FULL_HOLD = PROMPT_NANOUSD + MAX_TOKENS * OUTPUT_NANOUSD
MINIMUM_HOLD = PROMPT_NANOUSD + 16 * OUTPUT_NANOUSD
EMBEDDING_HOLD = 30 * SECOND_NANOUSD
BUDGET_NANOUSD = 1_000_000_000
USAGE = Usage(20, 30)
USAGE_NANOUSD = 20 * INPUT_NANOUSD + 30 * OUTPUT_NANOUSD


def chat_of(max_tokens: int = MAX_TOKENS, choices: int = 1, **fields: object) -> ChatRequest:
    return ChatRequest.of(MESSAGES, fields, max_tokens, choices=choices)


def received_cost(tokens: int) -> int:
    """The cost of the prompt and of so many received tokens, in nano-USD."""
    return PROMPT_NANOUSD + tokens * OUTPUT_NANOUSD


# --- the upstream


class FakeUpstream:
    """Runs the script for each call, and records the bodies that it was sent."""

    def __init__(self) -> None:
        self.script: Script = answer()
        self.bodies: list[bytes] = []
        self.closed = 0
        self.answer = b'{"whole":1}'
        self.recorded: list[tuple[int, int]] = []
        """The size of each answer in one piece, and the thread that read it."""

    def relay(self, body: bytes, attempt: Attempt, put: Put, *, shows_usage: bool, **options: bool) -> None:
        assert not shows_usage
        assert not any(options.values())
        self.bodies.append(body)
        try:
            self.script(attempt, put)
        finally:
            self.closed += 1

    def text(self, body: bytes, attempt: Attempt) -> str:
        self.relay(body, attempt, lambda _: None, shows_usage=False)
        return "the answer"

    def complete_json(self, body: bytes, attempt: Attempt) -> BufferedBody:
        self.relay(body, attempt, lambda _: None, shows_usage=False)
        return buffered(self.answer)

    def record_json(self, answer: BufferedBody, attempt: Attempt) -> None:  # noqa: ARG002 - the script has done it
        self.recorded.append((len(answer.content), get_ident()))

    def embed(self, bodies: Sequence[bytes], attempt: Attempt, count: int) -> BufferedBody:
        (body,) = bodies
        assert count == 1
        self.relay(body, attempt, lambda _: None, shows_usage=False)
        return buffered(b"[[0.5]]")

    def body(self) -> dict[str, object]:
        """The one body that was sent."""
        (body,) = self.bodies
        loaded: dict[str, object] = orjson.loads(body)
        return loaded


def answer(
    events: int = 3, error: BaseException | None = None, *, hangs: bool = False, **facts: object
) -> Script:
    """A script: events of two tokens each; then it sets the facts, and raises or hangs."""

    def script(attempt: Attempt, put: Put) -> None:
        attempt.sent = attempt.answering = True
        for number in range(events):
            attempt.received_tokens += 2
            put(b"data: %d\n\n" % number)
        for name, value in facts.items():
            setattr(attempt, name, value)
        if hangs:
            hang()
        if error:
            raise error

    return script


def outcome(error: BaseException | None = None, /, *, seconds: float = 0.0, **facts: object) -> Script:
    """A script without events: it sets the facts and the duration of the call, and then raises the error."""

    def script(attempt: Attempt, put: Put) -> None:  # noqa: ARG001 - no events
        attempt.started_at, attempt.ended_at = 50.0, 50.0 + seconds
        for name, value in facts.items():
            setattr(attempt, name, value)
        if error:
            raise error

    return script


def hang() -> None:
    """Wait for an interruption."""
    Event().wait(30)
    pytest.fail("nothing interrupted the wait")


# --- the clients


class PatientClient:
    """A client that never hangs up."""

    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:  # noqa: ARG002 - it never interrupts
        yield

    def hang_up(self) -> None:
        raise AssertionError("it reads")


class GoneClient(PatientClient):
    """A client that has hung up before it is watched."""

    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:
        interrupt(ClientGoneError())
        yield


# --- the ledger and the service


class RecordingLedger(MemoryLedger):
    """Records how each hold is resolved."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1200, clock)
        self.resolved: list[tuple[str, str, int]] = []
        self.fails = False

    def settle(self, hold: Hold, cost_nanousd: int, call: CallRecord | None = None) -> RunUsage | None:
        self.resolved.append(("settle", hold.id, cost_nanousd))
        if self.fails:
            raise LedgerUnavailableError
        return super().settle(hold, cost_nanousd, call)

    def release(self, hold: Hold) -> RunUsage | None:
        self.resolved.append(("release", hold.id, 0))
        if self.fails:
            raise LedgerUnavailableError
        return super().release(hold)


class CallFixture:
    """A call service and the parts that it is made of."""

    def __init__(self, settings: Settings | None = None, **overrides: str) -> None:
        settings = settings or settings_of(
            **{
                "MODEL_PRICES": PRICES,
                "DEFAULT_MODEL": MODEL,
                "EMBEDDING_PRICE_PER_SECOND": "0.0001",
                **overrides,
            }
        )
        self._max_in_flight = settings.max_concurrent_calls_per_run
        self.clock = Clock()
        self.ledger = RecordingLedger(self.clock)
        self.outbox = Outbox(self.ledger)
        self.admission = Admission(settings.max_concurrent_calls)
        self.prices = PriceList(settings.model_prices)
        self.upstream = FakeUpstream()
        metrics = Metrics()
        self.service = CallService(
            settings=settings,
            prices=self.prices,
            ledger=self.ledger,
            outbox=self.outbox,
            upstream=cast(
                "ChutesClient", self.upstream
            ),  # the fake has only the methods that the service calls
            admission=self.admission,
            hold_waits=HoldWaits(self.ledger, self.admission, metrics, settings),
            rate_limits=RateLimits(SlidingWindows(), None, None),
            budgets=Budgets(()),
            circuits=CircuitBreakers(10, 10.0),
            learned=LearnedCounts(SharedTable(None, 1 << 20), b"secret of the tests"),
            turns=Turns(),
            metrics=metrics,
        )

    def call(self, budget: int = BUDGET_NANOUSD, model: str | None = None) -> Call:
        return Call(Run("run", budget, max_in_flight=self._max_in_flight), PatientClient(), model)

    def infer(self, call: Call | None = None) -> str:
        return self.service.infer(call or self.call(), chat_of())

    def embed(self, call: Call | None = None) -> BufferedBody:
        return self.service.embed(call or self.call(), EmbeddingRequest.of("text"))

    def relay(self, call: Call | None = None, chat: ChatRequest | None = None) -> Generator[bytes]:
        return self.service.relay(call or self.call(), chat or chat_of())

    def usage(self) -> RunUsage:
        usage = self.ledger.usage("run")
        assert usage
        return usage

    def settled_once(self) -> int | None:
        """Assert that the one hold has resolved. Returns its cost, or None if it was released."""
        ((verb, _, cost),) = self.ledger.resolved
        usage = self.usage()
        assert (usage.held_nanousd, usage.in_flight, self.admission.in_flight) == (0, 0, 0)
        assert usage.spent_nanousd == cost
        assert self.upstream.closed == len(self.upstream.bodies)
        return cost if verb == "settle" else None
