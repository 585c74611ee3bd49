"""The story of a call with the real ledger and the real admission; only the upstream is played."""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import gevent
import orjson
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Price, Usage
from ridges_proxy.calls.admission import Admission, InFlightCall
from ridges_proxy.calls.circuit_breaker import CircuitBreakers
from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.calls.service import Call, CallService
from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    ClientGoneError,
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    LedgerUnavailableError,
    ModelNotSupportedError,
    OverloadedError,
    RefusedError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.ledger import Kind, MemoryLedger, Outbox, Run, RunUsage
from ridges_proxy.runtime.sliding_window import SlidingWindows
from ridges_proxy.telemetry.metrics import Metrics
from tests.support.app import settings_of
from tests.support.buffered import buffered
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.config import Settings
    from ridges_proxy.upstream import Attempt, BufferedBody, ChutesClient

    Script = Callable[[Attempt], None]

MODEL = "a-model"
INPUT_NANOUSD, OUTPUT_NANOUSD = 300, 1_100
"""By token."""
PRICES = '{"a-model": {"input": 0.3, "output": 1.1}, "free-model": 0}'
SECOND_NANOUSD = 100_000

MESSAGES = [{"role": "user", "content": "hi"}]
PROMPT_TOKENS = len(b'[{"role":"user","content":"hi"}]') + 16 + 256
PROMPT_NANOUSD = PROMPT_TOKENS * INPUT_NANOUSD
FULL_HOLD = PROMPT_NANOUSD + 1024 * OUTPUT_NANOUSD
FLOOR = PROMPT_NANOUSD + 16 * OUTPUT_NANOUSD
CAP_NANOUSD = 1_000_000_000
EMBEDDING_HOLD = 30 * SECOND_NANOUSD


def chat_of(messages: list[dict[str, str]], max_tokens: int = 1024, **fields: object) -> ChatRequest:
    return ChatRequest.of(messages, {"temperature": 0.7, **fields}, max_tokens)


class FakeUpstream:
    """Notes what it is sent; shows on the attempt, and raises, what the script says."""

    def __init__(self) -> None:
        self.script: Script = whole
        self.bodies: list[bytes] = []

    def text(self, body: bytes, attempt: Attempt) -> str:
        self.bodies.append(body)
        self.script(attempt)
        return "the answer"

    def embed(self, body: bytes, attempt: Attempt, count: int) -> BufferedBody:
        assert count == 1
        self.bodies.append(body)
        self.script(attempt)
        return buffered(b"[[0.5]]")

    def body(self) -> dict[str, object]:
        """The one body that was sent."""
        (body,) = self.bodies
        loaded: dict[str, object] = orjson.loads(body)
        return loaded


class PatientClient:
    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:  # noqa: ARG002 - it never uses it
        yield

    def hang_up(self) -> None:
        raise AssertionError("it reads")


class GoneClient(PatientClient):
    """Has hung up by the time that it is watched."""

    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:
        interrupt(ClientGoneError())
        yield


class Shop:
    """Calls and all that they are made of."""

    def __init__(self, configured: Settings) -> None:
        self.clock = Clock()
        self.ledger = MemoryLedger(1200, self.clock)
        self.admission = Admission(configured.max_concurrent_calls)
        self.upstream = FakeUpstream()
        # The fake has only what calls use.
        self.prices = PriceList(configured.model_prices)
        upstream = cast("ChutesClient", self.upstream)
        outbox = Outbox(self.ledger)
        limits, circuits, metrics = (
            RateLimits(SlidingWindows(), None, None),
            CircuitBreakers(10, 10.0),
            Metrics(),
        )
        self.calls = CallService(
            configured, self.prices, self.ledger, outbox, upstream, self.admission, limits, circuits, metrics
        )

    def call(self, cap: int = CAP_NANOUSD, model: str | None = None) -> Call:
        return Call(Run("run", cap), PatientClient(), model)

    def infer(self, call: Call | None = None) -> str:
        return self.calls.infer(call or self.call(), chat_of(MESSAGES))

    def embed(self, call: Call | None = None) -> BufferedBody:
        return self.calls.embed(call or self.call(), EmbeddingRequest.of("text"))

    def books(self) -> RunUsage:
        books = self.ledger.usage("run")
        assert books
        return books


def shop_of(**overrides: str) -> Shop:
    return Shop(
        settings_of(
            **{
                "MODEL_PRICES": PRICES,
                "DEFAULT_MODEL": MODEL,
                "EMBEDDING_PRICE_PER_SECOND": "0.0001",
                **overrides,
            }
        )
    )


@pytest.fixture
def shop() -> Shop:
    return shop_of()


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """What calls log as errors, whether or not their logger hands it on to the root."""
    records: list[logging.LogRecord] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("ridges_proxy"), Lines(logging.ERROR)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The deadlines of the waits that begin."""
    begun: list[float] = []
    wait = InFlightCall.waiting

    def waiting(flight: InFlightCall, deadline_seconds: float, client: PatientClient) -> object:
        begun.append(deadline_seconds)
        return wait(flight, deadline_seconds, client)

    monkeypatch.setattr(InFlightCall, "waiting", waiting)
    return begun


# --- what an upstream may do


def show(error: BaseException | None = None, /, *, seconds: float = 0.0, **facts: object) -> Script:
    """A script that sets these facts, and the time that the upstream had the call, and then raises."""

    def script(attempt: Attempt) -> None:
        attempt.started_at, attempt.ended_at = 50.0, 50.0 + seconds
        for name, value in facts.items():
            setattr(attempt, name, value)
        if error:
            raise error

    return script


def hang(**facts: object) -> Script:
    """A script that sets these facts and then waits for ever."""

    def script(attempt: Attempt) -> None:
        show(**facts)(attempt)  # type: ignore[arg-type] # facts only
        Event().wait(30)
        pytest.fail("nothing interrupted the wait")

    return script


USAGE = Usage(20, 30)
USAGE_NANOUSD = 20 * INPUT_NANOUSD + 30 * OUTPUT_NANOUSD
BUSY = UpstreamBusyError(429)
ANSWERING = {"sent": True, "answering": True}
whole = show(sent=True, answering=True, complete=True, usage=USAGE, seconds=0.25)


@dataclass(frozen=True)
class Row:
    """One row of the README's table of holds: what happens, and what the run has then spent."""

    name: str
    script: Script
    spent: int | None
    """None where the hold is released, so that no call is counted."""
    raises: type[BaseException] | None = None


INFERENCE_ROWS = [
    Row("usage reported", whole, USAGE_NANOUSD),
    Row(
        "usage reported, then the stream breaks after its end",
        show(UpstreamBrokenError(), **ANSWERING, complete=True, usage=USAGE),
        USAGE_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "usage above the hold",
        show(**ANSWERING, complete=True, usage=Usage(0, 2_000)),
        2_000 * OUTPUT_NANOUSD,
    ),
    Row(
        "whole answer, no usage",
        show(**ANSWERING, complete=True, received_tokens=7),
        PROMPT_NANOUSD + 7 * OUTPUT_NANOUSD,
    ),
    Row(
        "whole answer, no usage, longer than was paid for",
        show(**ANSWERING, complete=True, received_tokens=9_999),
        FULL_HOLD,
    ),
    Row("never reached", show(UpstreamUnreachableError()), None, UpstreamUnreachableError),
    Row("error status", show(BUSY, sent=True, refused=True), None, UpstreamBusyError),
    Row(
        "broken before any token",
        show(UpstreamBrokenError(), **ANSWERING),
        PROMPT_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "broken mid-answer",
        show(UpstreamBrokenError(), **ANSWERING, received_tokens=5),
        PROMPT_NANOUSD + 5 * OUTPUT_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "timed out mid-answer, longer than was paid for",
        show(UpstreamTimeoutError(), **ANSWERING, received_tokens=9_999),
        FULL_HOLD,
        UpstreamTimeoutError,
    ),
    Row(
        "broken mid-answer after a usage above the bound",
        show(UpstreamBrokenError(), **ANSWERING, received_tokens=1, usage=Usage(400, 30)),
        400 * INPUT_NANOUSD + 30 * OUTPUT_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "broken mid-answer after a usage above the hold",
        show(UpstreamBrokenError(), **ANSWERING, received_tokens=1, usage=Usage(0, 2_000)),
        FULL_HOLD,
        UpstreamBrokenError,
    ),
    Row("nothing came back", show(UpstreamTimeoutError(), sent=True), FULL_HOLD, UpstreamTimeoutError),
    Row("killed while sent", show(gevent.GreenletExit(), sent=True), FULL_HOLD, gevent.GreenletExit),
    Row("killed before", show(gevent.GreenletExit()), None, gevent.GreenletExit),
    Row(
        "interrupted from the keyboard mid-answer",
        show(KeyboardInterrupt(), **ANSWERING, received_tokens=5),
        PROMPT_NANOUSD + 5 * OUTPUT_NANOUSD,
        KeyboardInterrupt,
    ),
    Row("a bug of ours", show(ZeroDivisionError(), sent=True), FULL_HOLD, ZeroDivisionError),
]

EMBEDDING_ROWS = [
    Row("whole answer", whole, 25_000),
    Row("whole answer, rounded up", show(**ANSWERING, complete=True, seconds=0.250_000_001), 25_001),
    Row(
        "whole answer after more time than was paid for",
        show(**ANSWERING, complete=True, seconds=31.0),
        31 * SECOND_NANOUSD,
    ),
    Row("never reached", show(UpstreamUnreachableError(), seconds=5), None, UpstreamUnreachableError),
    Row("error status", show(BUSY, sent=True, refused=True, seconds=5), None, UpstreamBusyError),
    Row(
        "broken mid-answer",
        show(UpstreamBrokenError(), **ANSWERING, seconds=2.5),
        250_000,
        UpstreamBrokenError,
    ),
    Row(
        "broken mid-answer after more time than was paid for",
        show(UpstreamBrokenError(), **ANSWERING, seconds=31.0),
        EMBEDDING_HOLD,
        UpstreamBrokenError,
    ),
    Row(
        "nothing came back",
        show(UpstreamTimeoutError(), sent=True, seconds=1),
        EMBEDDING_HOLD,
        UpstreamTimeoutError,
    ),
    Row(
        "killed while sent",
        show(gevent.GreenletExit(), sent=True, seconds=1),
        EMBEDDING_HOLD,
        gevent.GreenletExit,
    ),
]


def check_row(shop: Shop, row: Row, kind: Kind) -> None:
    call = shop.call()
    shop.upstream.script = row.script
    with pytest.raises(row.raises) if row.raises else nullcontext():
        _ = shop.infer(call) if kind is Kind.INFERENCE else shop.embed(call)
    spent = row.spent or 0
    expected = RunUsage("run", CAP_NANOUSD, calls=int(row.spent is not None))
    if kind is Kind.INFERENCE:
        expected = replace(expected, inference_nanousd=spent)
    else:
        expected = replace(expected, embedding_nanousd=spent)
    assert shop.books() == call.books == expected
    assert call.cost_nanousd == spent
    assert shop.admission.in_flight == 0


@pytest.mark.parametrize("row", INFERENCE_ROWS, ids=lambda row: row.name)
def test_an_inference_ends_in_the_books_as_the_table_of_holds_says(shop: Shop, row: Row) -> None:
    check_row(shop, row, Kind.INFERENCE)


@pytest.mark.parametrize("row", EMBEDDING_ROWS, ids=lambda row: row.name)
def test_an_embedding_ends_in_the_books_as_the_table_of_holds_says(shop: Shop, row: Row) -> None:
    check_row(shop, row, Kind.EMBEDDING)


def test_a_call_under_way_is_held_in_full(shop: Shop) -> None:
    seen: list[RunUsage] = []
    shop.upstream.script = lambda _: seen.append(shop.books())
    shop.infer()
    shop.embed()
    assert [(books.held_nanousd, books.in_flight) for books in seen] == [(FULL_HOLD, 1), (EMBEDDING_HOLD, 1)]


def test_the_books_on_a_call_are_those_after_it(shop: Shop) -> None:
    first, second = shop.call(), shop.call()
    shop.infer(first)
    shop.embed(second)
    assert first.books == RunUsage("run", CAP_NANOUSD, inference_nanousd=USAGE_NANOUSD, calls=1)
    assert second.books == shop.books()
    assert (first.cost_nanousd, second.cost_nanousd) == (USAGE_NANOUSD, 25_000)
    assert second.books.spent_nanousd == USAGE_NANOUSD + 25_000


# --- what ends a wait


def test_a_client_that_hangs_up_mid_answer_pays_for_what_was_seen(shop: Shop) -> None:
    shop.upstream.script = hang(**ANSWERING, received_tokens=5)
    with pytest.raises(ClientGoneError):
        shop.infer(Call(Run("run", CAP_NANOUSD), GoneClient()))
    assert shop.books().spent_nanousd == PROMPT_NANOUSD + 5 * OUTPUT_NANOUSD
    assert shop.books().held_nanousd == 0


def test_a_client_that_hangs_up_before_the_answer_pays_for_the_hold(shop: Shop) -> None:
    shop.upstream.script = hang(sent=True)
    with pytest.raises(ClientGoneError):
        shop.embed(Call(Run("run", CAP_NANOUSD), GoneClient()))
    assert (shop.books().spent_nanousd, shop.books().held_nanousd) == (EMBEDDING_HOLD, 0)


def test_a_call_past_its_deadline_pays_for_what_was_seen() -> None:
    shop = shop_of(DEADLINE_SECONDS="0.1")
    shop.upstream.script = hang(**ANSWERING, received_tokens=5)
    with pytest.raises(DeadlineExceededError):
        shop.infer()
    assert shop.books().spent_nanousd == PROMPT_NANOUSD + 5 * OUTPUT_NANOUSD


def test_a_call_cut_off_by_the_drain_pays_for_what_was_seen(shop: Shop) -> None:
    gevent.spawn(shop.admission.cut_all)
    shop.upstream.script = hang(**ANSWERING, received_tokens=5)
    with pytest.raises(DrainedError):
        shop.infer()
    assert shop.books().spent_nanousd == PROMPT_NANOUSD + 5 * OUTPUT_NANOUSD


def test_a_call_cut_off_before_it_was_sent_pays_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = shop.ledger.reserve

    def reserve_while_the_drain_ends(*args: object) -> object:
        shop.admission.cut_all()
        return reserve(*args)  # type: ignore[arg-type] # passed on as they come

    monkeypatch.setattr(shop.ledger, "reserve", reserve_while_the_drain_ends)
    with pytest.raises(DrainedError):
        shop.infer()
    assert shop.upstream.bodies == []
    assert shop.books() == RunUsage("run", CAP_NANOUSD)


def test_a_call_that_settles_after_the_sweep_took_its_hold_is_logged_and_charged_once(
    shop: Shop, errors: list[logging.LogRecord]
) -> None:
    def outlive_the_hold(attempt: Attempt) -> None:
        shop.clock.advance(300 + 2 * 30 + 30 - 0.125)  # the deadline, two writes, and time to settle
        assert shop.ledger.sweep(10).overdue == []
        shop.clock.advance(0.125)
        assert len(shop.ledger.sweep(10).overdue) == 1
        whole(attempt)

    shop.upstream.script = outlive_the_hold
    call = shop.call()
    assert shop.infer(call) == "the answer"
    assert call.books is None
    assert shop.books() == RunUsage("run", CAP_NANOUSD, inference_nanousd=FULL_HOLD, calls=1)
    assert [record.getMessage() for record in errors] == ["hold was resolved by the sweep"]


# --- above the hold


@pytest.mark.parametrize("kind", list(Kind))
def test_a_cost_above_the_hold_is_recorded_in_full_counted_and_logged(
    shop: Shop, kind: Kind, errors: list[logging.LogRecord]
) -> None:
    shop.upstream.script = show(**ANSWERING, complete=True, usage=Usage(0, 3_000), seconds=60)
    _ = shop.infer() if kind is Kind.INFERENCE else shop.embed()
    cost, hold = (
        (3_000 * OUTPUT_NANOUSD, FULL_HOLD) if kind is Kind.INFERENCE else (6_000_000, EMBEDDING_HOLD)
    )
    assert shop.books().spent_nanousd == cost
    assert shop.calls.settled_above_hold == 1
    (line,) = errors
    assert line.getMessage() == "call cost more than its hold"
    fields = line.__dict__
    assert (fields["run"], fields["hold_usd"], fields["cost_usd"]) == ("run", hold / 1e9, cost / 1e9)


def test_a_cost_at_the_hold_is_neither_counted_nor_logged(
    shop: Shop, errors: list[logging.LogRecord]
) -> None:
    shop.upstream.script = show(**ANSWERING, complete=True, usage=Usage(PROMPT_TOKENS, 1024), seconds=30)
    shop.infer()
    shop.embed()
    assert shop.books().spent_nanousd == FULL_HOLD + EMBEDDING_HOLD
    assert (shop.calls.settled_above_hold, errors) == (0, [])


def test_a_usage_that_the_answer_refutes_is_logged(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ridges_proxy"), "propagate", True)
    shop.upstream.script = show(
        **ANSWERING, complete=True, usage=Usage(1, 1), deltas=500, received_tokens=500
    )
    shop.infer()
    (line,) = [
        record
        for record in caplog.records
        if record.getMessage() == "the upstream reported fewer tokens than it sent"
    ]
    assert (line.levelname, line.__dict__["run"], line.__dict__["model"]) == ("WARNING", "run", MODEL)
    assert round(line.__dict__["cost_usd"] * 1e9) == shop.books().spent_nanousd


# --- what is sent


def test_an_inference_asks_for_a_stream_with_its_usage_and_returns_the_text(shop: Shop) -> None:
    assert shop.calls.infer(shop.call(), chat_of(MESSAGES, temperature=0.25)) == "the answer"
    assert shop.upstream.body() == {
        "model": MODEL,
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 1024,
        "temperature": 0.25,
    }


def test_an_embedding_sends_the_text_and_returns_the_answer_as_it_came(shop: Shop) -> None:
    assert shop.calls.embed(shop.call(), EmbeddingRequest.of("téxt")).content == b"[[0.5]]"
    assert shop.upstream.body() == {"inputs": "téxt"}


def test_a_call_that_names_a_model_gets_that_one(shop: Shop) -> None:
    call = shop.call(model="free-model")
    shop.infer(call)
    assert shop.upstream.body()["model"] == call.model == "free-model"


def test_a_tight_budget_sends_the_tokens_that_it_pays_for_and_not_one_more(shop: Shop) -> None:
    shop.infer(shop.call(cap=PROMPT_NANOUSD + 101 * OUTPUT_NANOUSD - 1))
    assert shop.upstream.body()["max_tokens"] == 100


def test_a_budget_for_just_the_floor_sends_the_least_tokens(shop: Shop) -> None:
    shop.infer(shop.call(cap=FLOOR))
    assert shop.upstream.body()["max_tokens"] == 16


def test_a_free_model_sends_the_most_tokens_even_when_nothing_is_left(shop: Shop) -> None:
    shop.infer(shop.call(cap=0, model="free-model"))
    assert shop.upstream.body()["max_tokens"] == 1024
    assert shop.books() == RunUsage("run", 0, calls=1)


def test_a_hold_is_at_the_inputs_rate_and_what_was_cached_is_charged_at_its_own() -> None:
    shop = shop_of(MODEL_PRICES='{"a-model": {"input": 0.3, "output": 1.1, "cached_input": 0.03}}')
    held: list[int] = []

    def reports_cached(attempt: Attempt) -> None:
        held.append(shop.books().held_nanousd)
        whole(attempt)
        attempt.usage = Usage(200, 10, 150)

    shop.upstream.script = reports_cached
    shop.infer()

    assert held == [FULL_HOLD]
    assert shop.books().spent_nanousd == 50 * 300 + 150 * 30 + 10 * 1_100


def test_a_call_in_flight_keeps_the_price_that_it_was_held_at(shop: Shop) -> None:
    def is_overtaken(attempt: Attempt) -> None:
        shop.prices.replace({MODEL: Price(10**12, 10**12)})
        whole(attempt)
        attempt.usage = Usage(10, 5)

    shop.upstream.script = is_overtaken
    shop.infer()
    assert shop.books().spent_nanousd == 10 * INPUT_NANOUSD + 5 * OUTPUT_NANOUSD

    shop.prices.replace({"another-model": Price(1, 1)})
    with pytest.raises(ModelNotSupportedError) as refused:
        shop.infer()
    assert refused.value.supported == ["another-model"]


prices = st.integers(0, 3_000_000_000) | st.integers(0, 20)
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=30)}), min_size=1, max_size=3
)


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(
    price=st.builds(Price, prices, prices),
    cap=st.integers(0, 5_000_000),
    most=st.integers(1, 5_000),
    least=st.integers(1, 100),
    chat=messages,
)
def test_the_tokens_asked_for_are_the_most_that_the_hold_pays_for(
    price: Price, cap: int, most: int, least: int, chat: list[dict[str, str]]
) -> None:
    least = min(least, most)
    shop = Shop(
        replace(
            settings_of(),
            model_prices={MODEL: price},
            default_model=MODEL,
            max_tokens=most,
            min_completion_tokens=least,
        )
    )
    held: list[int] = []
    shop.upstream.script = lambda _: held.append(shop.books().held_nanousd)
    # The bound written out once more: every byte of the messages as sent, 16 a message, 256 a call.
    prompt_tokens = len(orjson.dumps(chat)) + 16 * len(chat) + 256
    try:
        shop.calls.infer(shop.call(cap), chat_of(chat, max_tokens=most))
    except BudgetExhaustedError:
        assert price.cost_nanousd(Usage(prompt_tokens, least)) > cap
        return
    asked = shop.upstream.body()["max_tokens"]
    assert isinstance(asked, int)
    assert orjson.dumps(chat) in shop.upstream.bodies[0]
    assert least <= asked <= most
    assert price.cost_nanousd(Usage(prompt_tokens, asked)) <= held[0] <= cap
    assert asked == most or price.cost_nanousd(Usage(prompt_tokens, asked + 1)) > held[0]


# --- deadlines


def test_the_deadline_of_an_inference_is_the_settings(shop: Shop, deadlines: list[float]) -> None:
    shop.infer(shop.call(cap=FLOOR))
    assert deadlines == [300.0]


@pytest.mark.parametrize(
    ("cap", "seconds"),
    [(CAP_NANOUSD, 30.0), (30 * SECOND_NANOUSD, 30.0), (15 * SECOND_NANOUSD, 15.0), (SECOND_NANOUSD, 1.0)],
)
def test_the_deadline_of_an_embedding_is_as_long_as_its_hold_pays_for(
    shop: Shop, deadlines: list[float], cap: int, seconds: float
) -> None:
    shop.embed(shop.call(cap=cap))
    assert deadlines == [seconds]


def test_an_embedding_that_costs_nothing_has_the_full_deadline(deadlines: list[float]) -> None:
    shop = shop_of(EMBEDDING_PRICE_PER_SECOND="0")
    shop.embed(shop.call(cap=0))
    assert deadlines == [30.0]


def test_an_embedding_ends_when_its_hold_is_used_up() -> None:
    shop = shop_of(EMBEDDING_DEADLINE_SECONDS="0.1")
    shop.upstream.script = hang(sent=True)
    with pytest.raises(DeadlineExceededError):
        shop.embed()
    assert shop.books().embedding_nanousd == SECOND_NANOUSD // 10


# --- refusals


def test_a_model_without_a_price_is_refused_by_name_before_anything_else(shop: Shop) -> None:
    with pytest.raises(ModelNotSupportedError) as refused:
        shop.infer(shop.call(model="another-model"))
    assert (refused.value.model, refused.value.supported) == ("another-model", [MODEL, "free-model"])
    assert shop.upstream.bodies == []
    assert shop.ledger.usage("run") is None


def test_a_budget_one_below_the_floor_is_exhausted_and_reaches_no_upstream(shop: Shop) -> None:
    with pytest.raises(BudgetExhaustedError):
        shop.infer(shop.call(cap=FLOOR - 1))
    with pytest.raises(BudgetExhaustedError):
        shop.embed(shop.call(cap=SECOND_NANOUSD - 1))
    assert shop.upstream.bodies == []
    assert shop.ledger.usage("run") is None
    assert shop.admission.in_flight == 0


def test_a_budget_held_by_another_call_is_refused_for_now_and_reaches_no_upstream(shop: Shop) -> None:
    other = shop.ledger.reserve(Run("run", FLOOR), Kind.EMBEDDING, 1, 1, 60)
    with pytest.raises(BudgetHeldError):
        shop.infer(shop.call(cap=FLOOR))
    assert shop.upstream.bodies == []
    shop.ledger.release(other)
    shop.infer(shop.call(cap=FLOOR))


@pytest.mark.parametrize("error", [BudgetExhaustedError, BudgetHeldError])
def test_a_call_refused_for_its_budget_has_no_books_and_costs_nothing(
    shop: Shop, error: type[RefusedError]
) -> None:
    cap = FLOOR - 1 if error is BudgetExhaustedError else FLOOR
    shop.ledger.reserve(Run("run", cap), Kind.EMBEDDING, 1, 1, 60)
    call = shop.call(cap=cap)
    with pytest.raises(error):
        shop.infer(call)
    assert (call.books, call.cost_nanousd) == (None, 0)


def test_calls_above_the_limits_reach_neither_the_books_nor_the_upstream() -> None:
    shop = shop_of(MAX_CONCURRENT_CALLS="2", MAX_CONCURRENT_CALLS_PER_RUN="1")
    with shop.admission.enter("one"), shop.admission.enter("other"), pytest.raises(OverloadedError):
        shop.infer()
    shop.admission.drain()
    with pytest.raises(DrainingError):
        shop.embed()
    assert shop.upstream.bodies == []
    assert shop.ledger.usage("run") is None


def test_without_an_answer_of_the_ledger_nothing_is_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailableError

    monkeypatch.setattr(shop.ledger, "reserve", fail)
    with pytest.raises(LedgerUnavailableError):
        shop.infer()
    assert shop.upstream.bodies == []
    assert shop.admission.in_flight == 0
