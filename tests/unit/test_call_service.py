"""The story of a call, with the real ledger and the real admission. Only the upstream is a fake."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import get_ident
from typing import TYPE_CHECKING

import gevent
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.billing.prices import Price, Usage
from ridges_proxy.calls.call import Call
from ridges_proxy.calls.in_flight import InFlightCall
from ridges_proxy.errors import (
    BudgetExhaustedError,
    ClientGoneError,
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    LedgerUnavailableError,
    ModelNotSupportedError,
    OverloadedError,
    RateLimitedError,
    RateLimitStatus,
    RunBusyError,
    RunClosedError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamDownError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.ledger import Kind, Run, RunUsage
from ridges_proxy.upstream import LARGE_BYTES
from ridges_proxy.upstream.byte_budget import ByteBudget
from tests.support.app import settings_of
from tests.support.buffered import buffered
from tests.support.call_fixture import (
    BUDGET_NANOUSD,
    EMBEDDING_HOLD,
    FULL_HOLD,
    INPUT_NANOUSD,
    MAX_TOKENS,
    MESSAGES,
    MINIMUM_HOLD,
    MODEL,
    OUTPUT_NANOUSD,
    PROMPT_NANOUSD,
    PROMPT_TOKENS,
    SECOND_NANOUSD,
    USAGE,
    USAGE_NANOUSD,
    CallFixture,
    GoneClient,
    PatientClient,
    answer,
    chat_of,
    hang,
    outcome,
    received_cost,
)
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ridges_proxy.upstream import Attempt
    from tests.support.call_fixture import Put, Script

BUSY = UpstreamBusyError(429)
ANSWERING = {"sent": True, "answering": True}
COMPLETE = outcome(**ANSWERING, complete=True, usage=USAGE, seconds=0.25)


@pytest.fixture
def calls() -> CallFixture:
    calls = CallFixture()
    calls.upstream.script = COMPLETE
    return calls


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """The errors that calls log, even if their logger does not propagate them."""
    records: list[logging.LogRecord] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("ridges_proxy"), Recorder(logging.ERROR)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The deadlines of the waits for the upstream."""
    recorded: list[float] = []
    wait = InFlightCall.waiting

    def waiting(in_flight: InFlightCall, deadline_seconds: float, client: PatientClient) -> object:
        recorded.append(deadline_seconds)
        return wait(in_flight, deadline_seconds, client)

    monkeypatch.setattr(InFlightCall, "waiting", waiting)
    return recorded


# --- how a hold resolves


@dataclass(frozen=True)
class Row:
    """One row of the table of holds: what the upstream does, and what the run has then spent."""

    name: str
    script: Script
    spent: int | None
    """None if the hold is released, so that no call is counted."""
    raises: type[BaseException] | None = None


INFERENCE_ROWS = [
    Row("usage reported", COMPLETE, USAGE_NANOUSD),
    Row(
        "usage reported, then the stream breaks after its end",
        outcome(UpstreamBrokenError(), **ANSWERING, complete=True, usage=USAGE),
        USAGE_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "usage above the hold",
        outcome(**ANSWERING, complete=True, usage=Usage(0, 2_000)),
        2_000 * OUTPUT_NANOUSD,
    ),
    Row(
        "complete answer, no usage",
        outcome(**ANSWERING, complete=True, received_tokens=7),
        received_cost(7),
    ),
    Row(
        "complete answer, no usage, more tokens than the hold pays for",
        outcome(**ANSWERING, complete=True, received_tokens=9_999),
        FULL_HOLD,
    ),
    Row("never reached", outcome(UpstreamUnreachableError()), None, UpstreamUnreachableError),
    Row("error status", outcome(BUSY, sent=True, refused=True), None, UpstreamBusyError),
    Row(
        "broken before any token",
        outcome(UpstreamBrokenError(), **ANSWERING),
        PROMPT_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "broken in the middle",
        outcome(UpstreamBrokenError(), **ANSWERING, received_tokens=5),
        received_cost(5),
        UpstreamBrokenError,
    ),
    Row(
        "timed out in the middle, more tokens than the hold pays for",
        outcome(UpstreamTimeoutError(), **ANSWERING, received_tokens=9_999),
        FULL_HOLD,
        UpstreamTimeoutError,
    ),
    Row(
        "broken in the middle, after a usage above the bound",
        outcome(UpstreamBrokenError(), **ANSWERING, received_tokens=1, usage=Usage(400, 30)),
        400 * INPUT_NANOUSD + 30 * OUTPUT_NANOUSD,
        UpstreamBrokenError,
    ),
    Row(
        "broken in the middle, after a usage above the hold",
        outcome(UpstreamBrokenError(), **ANSWERING, received_tokens=1, usage=Usage(0, 2_000)),
        FULL_HOLD,
        UpstreamBrokenError,
    ),
    Row("no answer", outcome(UpstreamTimeoutError(), sent=True), FULL_HOLD, UpstreamTimeoutError),
    Row(
        "killed after it was sent", outcome(gevent.GreenletExit(), sent=True), FULL_HOLD, gevent.GreenletExit
    ),
    Row("killed before it was sent", outcome(gevent.GreenletExit()), None, gevent.GreenletExit),
    Row(
        "interrupted from the keyboard in the middle",
        outcome(KeyboardInterrupt(), **ANSWERING, received_tokens=5),
        received_cost(5),
        KeyboardInterrupt,
    ),
    Row("a bug", outcome(ZeroDivisionError(), sent=True), FULL_HOLD, ZeroDivisionError),
]

EMBEDDING_ROWS = [
    Row("complete answer", COMPLETE, 25_000),
    Row("complete answer, rounded up", outcome(**ANSWERING, complete=True, seconds=0.250_000_001), 25_001),
    Row(
        "complete answer after more time than the hold pays for",
        outcome(**ANSWERING, complete=True, seconds=31.0),
        31 * SECOND_NANOUSD,
    ),
    Row("never reached", outcome(UpstreamUnreachableError(), seconds=5), None, UpstreamUnreachableError),
    Row("error status", outcome(BUSY, sent=True, refused=True, seconds=5), None, UpstreamBusyError),
    Row(
        "broken in the middle",
        outcome(UpstreamBrokenError(), **ANSWERING, seconds=2.5),
        250_000,
        UpstreamBrokenError,
    ),
    Row(
        "broken in the middle, after more time than the hold pays for",
        outcome(UpstreamBrokenError(), **ANSWERING, seconds=31.0),
        EMBEDDING_HOLD,
        UpstreamBrokenError,
    ),
    Row(
        "no answer",
        outcome(UpstreamTimeoutError(), sent=True, seconds=1),
        EMBEDDING_HOLD,
        UpstreamTimeoutError,
    ),
    Row(
        "killed after it was sent",
        outcome(gevent.GreenletExit(), sent=True, seconds=1),
        EMBEDDING_HOLD,
        gevent.GreenletExit,
    ),
]


def check_row(row: Row, kind: Kind) -> None:
    calls = CallFixture()
    call = calls.call()
    calls.upstream.script = row.script
    with pytest.raises(row.raises) if row.raises else nullcontext():
        _ = calls.infer(call) if kind is Kind.INFERENCE else calls.embed(call)
    spent = row.spent or 0
    expected = RunUsage("run", BUDGET_NANOUSD, calls=int(row.spent is not None))
    if kind is Kind.INFERENCE:
        expected = replace(expected, inference_nanousd=spent)
    else:
        expected = replace(expected, embedding_nanousd=spent)
    assert calls.usage() == call.run_usage == expected
    assert call.cost_nanousd == spent
    assert calls.admission.in_flight == 0


def test_the_hold_of_an_inference_resolves_by_what_the_attempt_shows() -> None:
    check_rows(INFERENCE_ROWS, lambda row: check_row(row, Kind.INFERENCE))


def test_the_hold_of_an_embedding_resolves_by_what_the_attempt_shows() -> None:
    check_rows(EMBEDDING_ROWS, lambda row: check_row(row, Kind.EMBEDDING))


def test_a_call_in_flight_is_held_in_full(calls: CallFixture) -> None:
    seen: list[RunUsage] = []
    calls.upstream.script = lambda *_: seen.append(calls.usage())
    calls.infer()
    calls.embed()
    assert [(usage.held_nanousd, usage.in_flight) for usage in seen] == [(FULL_HOLD, 1), (EMBEDDING_HOLD, 1)]


def test_a_call_has_the_usage_of_its_run_after_it(calls: CallFixture) -> None:
    first, second = calls.call(), calls.call()
    calls.infer(first)
    calls.embed(second)
    assert first.run_usage == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=USAGE_NANOUSD, calls=1)
    assert second.run_usage == calls.usage()
    assert (first.cost_nanousd, second.cost_nanousd) == (USAGE_NANOUSD, 25_000)
    assert second.run_usage.spent_nanousd == USAGE_NANOUSD + 25_000


def test_a_call_has_the_usage_of_its_run_with_its_own_budget(calls: CallFixture) -> None:
    """A later call of the run has a token with another budget."""

    def call_with_another_budget(attempt: Attempt, put: Put) -> None:
        calls.ledger.release(calls.ledger.reserve(Run("run", 2 * BUDGET_NANOUSD), Kind.EMBEDDING, 1, 1, 60))
        COMPLETE(attempt, put)

    calls.upstream.script = call_with_another_budget
    call = calls.call()
    calls.infer(call)
    assert calls.usage().budget_nanousd == 2 * BUDGET_NANOUSD
    assert call.run_usage == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=USAGE_NANOUSD, calls=1)


# --- interruptions


def test_a_call_that_is_killed_between_its_answer_and_its_settlement_settles(calls: CallFixture) -> None:
    def answer_and_kill(attempt: Attempt, put: Put) -> None:
        COMPLETE(attempt, put)
        caller.kill(block=False)

    calls.upstream.script = answer_and_kill
    caller = gevent.spawn(calls.infer)
    caller.join(5)
    assert isinstance(caller.value, gevent.GreenletExit)
    assert calls.usage() == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=USAGE_NANOUSD, calls=1)
    assert calls.admission.in_flight == 0


def test_a_call_that_is_killed_before_it_reserves_holds_nothing(calls: CallFixture) -> None:
    caller = gevent.spawn(calls.infer)
    gevent.get_hub().loop.run_callback(caller.throw)
    caller.join(5)
    assert isinstance(caller.value, gevent.GreenletExit)
    assert calls.ledger.usage("run") is None
    assert calls.admission.in_flight == 0


def test_a_client_that_hangs_up_in_the_middle_pays_for_what_was_received(calls: CallFixture) -> None:
    calls.upstream.script = answer(2, hangs=True)
    with pytest.raises(ClientGoneError):
        calls.infer(Call(Run("run", BUDGET_NANOUSD), GoneClient()))
    assert calls.usage().spent_nanousd == received_cost(4)
    assert calls.usage().held_nanousd == 0


def test_a_client_that_hangs_up_before_the_answer_pays_the_hold(calls: CallFixture) -> None:
    calls.upstream.script = send_and_hang
    with pytest.raises(ClientGoneError):
        calls.embed(Call(Run("run", BUDGET_NANOUSD), GoneClient()))
    assert (calls.usage().spent_nanousd, calls.usage().held_nanousd) == (EMBEDDING_HOLD, 0)


def send_and_hang(attempt: Attempt, put: Put) -> None:  # noqa: ARG001 - no events
    attempt.sent = True
    hang()


def test_a_call_past_its_deadline_pays_for_what_was_received() -> None:
    calls = CallFixture(DEADLINE_SECONDS="0.1")
    calls.upstream.script = answer(2, hangs=True)
    with pytest.raises(DeadlineExceededError):
        calls.infer()
    assert calls.usage().spent_nanousd == received_cost(4)


def test_a_call_cut_off_by_the_drain_pays_for_what_was_received(calls: CallFixture) -> None:
    def answer_and_cut(attempt: Attempt, put: Put) -> None:
        gevent.spawn(calls.admission.cut_all)
        answer(2, hangs=True)(attempt, put)

    calls.upstream.script = answer_and_cut
    with pytest.raises(DrainedError):
        calls.infer()
    assert calls.usage().spent_nanousd == received_cost(4)


def test_a_call_cut_off_before_it_was_sent_pays_nothing(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = calls.ledger.reserve

    def reserve_while_the_drain_ends(*args: object) -> object:
        calls.admission.cut_all()
        return reserve(*args)  # type: ignore[arg-type] # passed on unchanged

    monkeypatch.setattr(calls.ledger, "reserve", reserve_while_the_drain_ends)
    with pytest.raises(DrainedError):
        calls.infer()
    assert calls.upstream.bodies == []
    assert calls.usage() == RunUsage("run", BUDGET_NANOUSD)


def test_a_call_that_settles_after_its_hold_expired_is_logged_and_charged_once(
    calls: CallFixture, errors: list[logging.LogRecord]
) -> None:
    def outlive_the_hold(attempt: Attempt, put: Put) -> None:
        calls.clock.advance(300 + 2 * 30 + 30 - 0.125)  # the deadline, two writes, and time to settle
        assert calls.ledger.sweep(10).expired == []
        calls.clock.advance(0.125)
        assert len(calls.ledger.sweep(10).expired) == 1
        COMPLETE(attempt, put)

    calls.upstream.script = outlive_the_hold
    call = calls.call()
    assert calls.infer(call) == "the answer"
    assert call.run_usage is None
    assert calls.usage() == RunUsage("run", BUDGET_NANOUSD, inference_nanousd=FULL_HOLD, calls=1)
    assert [record.getMessage() for record in errors] == ["hold was resolved by the sweep"]


# --- a cost above the hold


@pytest.mark.parametrize("kind", list(Kind))
def test_a_cost_above_the_hold_is_recorded_in_full_counted_and_logged(
    calls: CallFixture, kind: Kind, errors: list[logging.LogRecord]
) -> None:
    calls.upstream.script = outcome(**ANSWERING, complete=True, usage=Usage(0, 3_000), seconds=60)
    _ = calls.infer() if kind is Kind.INFERENCE else calls.embed()
    cost, hold = (
        (3_000 * OUTPUT_NANOUSD, FULL_HOLD) if kind is Kind.INFERENCE else (6_000_000, EMBEDDING_HOLD)
    )
    assert calls.usage().spent_nanousd == cost
    assert calls.service.settled_above_hold == 1
    (line,) = errors
    assert line.getMessage() == "call cost more than its hold"
    fields = line.__dict__
    assert (fields["run"], fields["hold_usd"], fields["cost_usd"]) == ("run", hold / 1e9, cost / 1e9)
    calls.infer()
    assert calls.service.settled_above_hold == 2


def test_a_cost_that_equals_the_hold_is_neither_counted_nor_logged(
    calls: CallFixture, errors: list[logging.LogRecord]
) -> None:
    calls.upstream.script = outcome(
        **ANSWERING, complete=True, usage=Usage(PROMPT_TOKENS, MAX_TOKENS), seconds=30
    )
    calls.infer()
    calls.embed()
    assert calls.usage().spent_nanousd == FULL_HOLD + EMBEDDING_HOLD
    assert (calls.service.settled_above_hold, errors) == (0, [])


def test_a_usage_that_the_answer_disproves_is_logged(
    calls: CallFixture, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ridges_proxy"), "propagate", True)
    calls.upstream.script = outcome(
        **ANSWERING, complete=True, usage=Usage(1, 1), deltas=500, received_tokens=500
    )
    calls.infer()
    (line,) = [
        record
        for record in caplog.records
        if record.getMessage() == "the upstream reported fewer tokens than it sent"
    ]
    assert (line.levelname, line.__dict__["run"], line.__dict__["model"]) == ("WARNING", "run", MODEL)
    assert round(line.__dict__["cost_usd"] * 1e9) == calls.usage().spent_nanousd


# --- the request


def test_an_inference_requests_a_stream_with_usage_and_returns_the_text(calls: CallFixture) -> None:
    assert calls.service.infer(calls.call(), chat_of(temperature=0.25)) == "the answer"
    assert calls.upstream.body() == {
        "model": MODEL,
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": MAX_TOKENS,
        "temperature": 0.25,
    }


def test_an_embedding_sends_the_text_and_returns_the_answer_unchanged(calls: CallFixture) -> None:
    assert calls.service.embed(calls.call(), EmbeddingRequest.of("téxt")).content == b"[[0.5]]"
    assert calls.upstream.body() == {"inputs": "téxt"}
    assert calls.usage().embedding_nanousd == calls.usage().spent_nanousd > 0


def test_a_call_uses_the_model_that_it_names(calls: CallFixture) -> None:
    call = calls.call(model="free-model")
    calls.infer(call)
    assert calls.upstream.body()["model"] == call.model == "free-model"


def test_an_answer_that_may_hide_tokens_costs_its_hold_unless_it_has_a_usage() -> None:
    def check(row: tuple[dict[str, bool], bool]) -> None:
        fields, hides = row
        calls = CallFixture()
        calls.upstream.script = outcome(**ANSWERING, complete=True, received_tokens=2)
        call = calls.call()
        calls.service.infer(call, ChatRequest.of(MESSAGES, fields, MAX_TOKENS))
        assert call.attempt.hides_tokens is hides
        assert calls.settled_once() == (call.requested_nanousd if hides else received_cost(2))

    check_rows([({}, False), ({"include_reasoning": False}, True)], check)


def test_max_tokens_is_what_the_budget_pays_for() -> None:
    rows: dict[str, tuple[int, int]] = {
        "one nano-USD less than 51 tokens": (PROMPT_NANOUSD + 51 * OUTPUT_NANOUSD - 1, 50),
        "51 tokens": (PROMPT_NANOUSD + 51 * OUTPUT_NANOUSD, 51),
        "just the minimum": (MINIMUM_HOLD, 16),
    }

    def check(row: tuple[str, tuple[int, int]]) -> None:
        budget, max_tokens = row[1]
        calls = CallFixture()
        calls.infer(calls.call(budget=budget))
        assert calls.upstream.body()["max_tokens"] == max_tokens

    check_rows(rows.items(), check)


def test_a_free_model_gets_all_tokens_even_when_nothing_remains(calls: CallFixture) -> None:
    calls.infer(calls.call(budget=0, model="free-model"))
    assert calls.upstream.body()["max_tokens"] == MAX_TOKENS
    assert calls.usage() == RunUsage("run", 0, calls=1, finished=True)


def test_a_hold_has_the_price_of_input_and_cached_tokens_are_charged_at_their_own() -> None:
    calls = CallFixture(MODEL_PRICES='{"a-model": {"input": 0.3, "output": 1.1, "cached_input": 0.03}}')
    held: list[int] = []

    def report_cached_tokens(attempt: Attempt, put: Put) -> None:
        held.append(calls.usage().held_nanousd)
        COMPLETE(attempt, put)
        attempt.usage = Usage(200, 10, 150)

    calls.upstream.script = report_cached_tokens
    calls.infer()

    assert held == [FULL_HOLD]
    assert calls.usage().spent_nanousd == 50 * 300 + 150 * 30 + 10 * 1_100


def test_a_call_in_flight_keeps_the_price_of_its_hold(calls: CallFixture) -> None:
    def change_the_price(attempt: Attempt, put: Put) -> None:
        calls.prices.replace({MODEL: Price(10**12, 10**12)})
        COMPLETE(attempt, put)
        attempt.usage = Usage(10, 5)

    calls.upstream.script = change_the_price
    calls.infer()
    assert calls.usage().spent_nanousd == 10 * INPUT_NANOUSD + 5 * OUTPUT_NANOUSD

    calls.prices.replace({"another-model": Price(1, 1)})
    with pytest.raises(ModelNotSupportedError) as refused:
        calls.infer()
    assert refused.value.supported == ["another-model"]


prices = st.integers(0, 3_000_000_000) | st.integers(0, 20)
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=30)}), min_size=1, max_size=3
)


@given(
    price=st.builds(Price, prices, prices),
    budget=st.integers(0, 5_000_000),
    max_tokens=st.integers(1, 5_000),
    min_tokens=st.integers(1, 100),
    chat=messages,
)
def test_the_requested_tokens_are_the_most_that_the_hold_pays_for(
    price: Price, budget: int, max_tokens: int, min_tokens: int, chat: list[dict[str, str]]
) -> None:
    min_tokens = min(min_tokens, max_tokens)
    calls = CallFixture(
        replace(
            settings_of(),
            model_prices={MODEL: price},
            default_model=MODEL,
            max_tokens=max_tokens,
            min_completion_tokens=min_tokens,
        )
    )
    held: list[int] = []
    calls.upstream.script = lambda *_: held.append(calls.usage().held_nanousd)
    # The bound, computed independently: all bytes of the messages, 16 for each message, 256 for a call.
    prompt_tokens = len(orjson.dumps(chat)) + 16 * len(chat) + 256
    try:
        calls.service.infer(calls.call(budget), ChatRequest.of(chat, {"temperature": 0.7}, max_tokens))
    except BudgetExhaustedError:
        assert price.cost_nanousd(Usage(prompt_tokens, min_tokens)) > budget
        return
    requested = calls.upstream.body()["max_tokens"]
    assert isinstance(requested, int)
    assert orjson.dumps(chat) in calls.upstream.bodies[0]
    assert min_tokens <= requested <= max_tokens
    assert price.cost_nanousd(Usage(prompt_tokens, requested)) <= held[0] <= budget
    assert requested == max_tokens or price.cost_nanousd(Usage(prompt_tokens, requested + 1)) > held[0]


# --- deadlines


def test_the_deadline_of_an_inference_is_a_setting(calls: CallFixture, deadlines: list[float]) -> None:
    calls.infer(calls.call(budget=MINIMUM_HOLD))
    assert deadlines == [300.0]


def test_the_deadline_of_an_embedding_is_the_time_that_its_hold_pays_for(deadlines: list[float]) -> None:
    rows = [
        (BUDGET_NANOUSD, 30.0),
        (30 * SECOND_NANOUSD, 30.0),
        (15 * SECOND_NANOUSD, 15.0),
        (SECOND_NANOUSD, 1.0),
    ]

    def check(row: tuple[int, float]) -> None:
        deadlines.clear()
        calls = CallFixture()
        calls.embed(calls.call(budget=row[0]))
        assert deadlines == [row[1]]

    check_rows(rows, check)


def test_a_free_embedding_has_the_full_deadline(deadlines: list[float]) -> None:
    calls = CallFixture(EMBEDDING_PRICE_PER_SECOND="0")
    calls.embed(calls.call(budget=0))
    assert deadlines == [30.0]


def test_an_embedding_ends_when_its_hold_is_used_up() -> None:
    calls = CallFixture(EMBEDDING_DEADLINE_SECONDS="0.1")
    calls.upstream.script = send_and_hang
    with pytest.raises(DeadlineExceededError):
        calls.embed()
    assert calls.usage().embedding_nanousd == SECOND_NANOUSD // 10


# --- refusals


def test_an_answer_without_a_usage_gets_one_with_the_prompt_of_each_choice(calls: CallFixture) -> None:
    calls.upstream.script = answer(complete=True)
    with calls.service.complete(calls.call(), replace(chat_of(choices=3), shows_cost=True)) as found:
        usage = orjson.loads(found.content)["usage"]
    assert usage["prompt_tokens"] == 3 * PROMPT_TOKENS


def test_a_model_without_a_price_is_refused_by_name_before_any_other_check(calls: CallFixture) -> None:
    with pytest.raises(ModelNotSupportedError) as refused:
        calls.infer(calls.call(model="another-model"))
    assert (refused.value.model, refused.value.supported) == ("another-model", [MODEL, "free-model"])
    assert calls.upstream.bodies == []
    assert calls.ledger.usage("run") is None


def test_a_model_that_the_runs_token_does_not_name_is_refused(calls: CallFixture) -> None:
    call = calls.call(model=MODEL)
    call.models = frozenset({"free-model"})
    with pytest.raises(ModelNotSupportedError) as refused:
        calls.infer(call)
    assert (refused.value.model, refused.value.supported) == (MODEL, ["free-model"])
    assert calls.upstream.bodies == []


def test_the_rate_limit_of_a_token_counts_the_calls_of_its_run(calls: CallFixture) -> None:
    first, second, other = (calls.call() for _ in range(3))
    other = replace(other, run=Run("other", BUDGET_NANOUSD))
    for call in (first, second, other):
        call.calls_per_minute = 1
    calls.infer(first)
    with pytest.raises(RateLimitedError):
        calls.infer(second)
    calls.infer(other)
    assert first.rate_limit_status == first.rate_limit == RateLimitStatus(1, 60, 0, 60)
    assert [len(call.rate_limit_hits) for call in (first, second, other)] == [1, 0, 1]
    assert len(calls.upstream.bodies) == 2


def test_a_call_that_the_breaker_stops_gives_back_what_it_counted_in_its_rate_limit(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The breaker opens between the admission of the call and its request."""

    def opens(*_: object) -> object:
        raise UpstreamDownError(10)

    call = calls.call()
    call.calls_per_minute = 1
    with monkeypatch.context() as patch:
        patch.setattr(calls.service.circuits, "guard", opens)
        with pytest.raises(UpstreamDownError):
            calls.infer(call)
    assert call.rate_limit_hits == []
    assert call.rate_limit_status == RateLimitStatus(1, 60, 1, 60)
    assert (calls.settled_once(), calls.service.held_nanousd) == (None, 0)
    again = calls.call()
    again.calls_per_minute = 1
    calls.infer(again)


def test_the_breaker_is_asked_for_the_model_and_the_run_before_the_hold_and_before_the_call(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str, bool]] = []
    breakers = calls.service.circuits

    def check(model: str, run_id: str) -> None:
        asked.append(("check", model, run_id, calls.ledger.usage("run") is not None))

    def guard(model: str, run_id: str, attempt: Attempt) -> AbstractContextManager[None]:
        asked.append(("guard", model, run_id, attempt is call.attempt))
        return nullcontext()

    monkeypatch.setattr(breakers, "check", check)
    monkeypatch.setattr(breakers, "guard", guard)
    call = calls.call(model="free-model")
    calls.infer(call)
    assert asked == [("check", "free-model", "run", False), ("guard", "free-model", "run", True)]


def test_closing_a_run_ends_its_calls_and_no_others(calls: CallFixture) -> None:
    calls.upstream.script = answer(hangs=True)
    first, other = calls.call(), replace(calls.call(), run=Run("other", BUDGET_NANOUSD))
    greenlets = [gevent.spawn(calls.infer, call) for call in (first, other)]
    gevent.sleep(0.01)
    assert calls.service.held_nanousd == 2 * FULL_HOLD
    calls.admission.end_run("run")
    with pytest.raises(RunClosedError):
        greenlets[0].get(timeout=5)
    assert (greenlets[1].ready(), calls.admission.in_flight) == (False, 1)
    assert calls.service.held_nanousd == FULL_HOLD
    calls.admission.end_run("other")
    with pytest.raises(RunClosedError):
        greenlets[1].get(timeout=5)


def test_a_body_is_released_when_its_call_cannot_be_settled(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = ByteBudget()

    def check(make: Callable[[], object]) -> None:
        with pytest.raises(LedgerUnavailableError):
            make()
        assert budget.used_bytes == 0

    def fail(*_: object) -> None:
        raise LedgerUnavailableError

    monkeypatch.setattr(calls.outbox, "resolve", fail)
    monkeypatch.setattr(calls.upstream, "embed", lambda *_: buffered(b"[[0.5]]", budget))
    monkeypatch.setattr(calls.upstream, "complete_json", lambda *_: buffered(b"{}", budget))
    check_rows([calls.embed, lambda: calls.service.complete(calls.call(), chat_of())], check)


def test_a_call_that_settles_tells_the_waiting_calls_what_its_run_has_spent(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[tuple[str, RunUsage | None]] = []
    monkeypatch.setattr(calls.service.hold_waits, "wake", lambda *seen: woken.append(seen))
    call = calls.call()
    calls.infer(call)
    assert woken == [("run", call.run_usage)]
    assert call.run_usage


def test_an_embedding_has_only_its_own_model_and_only_if_the_run_may_use_it() -> None:
    """Rows: the model that the call names, the models of its token, and those that the refusal offers."""
    only = CallFixture().service.settings.embedding_model

    def check(row: tuple[str | None, set[str] | None, list[str] | None]) -> None:
        model, models, offered = row
        calls = CallFixture()
        call = calls.call(model=model)
        call.models = None if models is None else frozenset(models)
        if offered is None:
            calls.embed(call)
            assert call.model == only
            return
        with pytest.raises(ModelNotSupportedError) as refused:
            calls.embed(call)
        assert (refused.value.model, refused.value.supported) == (model or only, offered)
        assert calls.upstream.bodies == []

    check_rows(
        [
            (None, None, None),
            (only, None, None),
            (None, {only, MODEL}, None),
            (only, {only}, None),
            (MODEL, None, [only]),
            (MODEL, {only}, [only]),
            (MODEL, {MODEL}, []),
            (only, {MODEL}, []),
            (None, {MODEL}, []),
        ],
        check,
    )


def test_a_budget_one_nanousd_below_the_minimum_is_exhausted_and_nothing_is_sent(calls: CallFixture) -> None:
    with pytest.raises(BudgetExhaustedError):
        calls.infer(calls.call(budget=MINIMUM_HOLD - 1))
    with pytest.raises(BudgetExhaustedError):
        calls.embed(calls.call(budget=SECOND_NANOUSD - 1))
    assert calls.upstream.bodies == []
    assert calls.ledger.usage("run") is None
    assert calls.admission.in_flight == 0


def test_without_a_wait_a_call_whose_budget_another_holds_is_refused_and_nothing_is_sent() -> None:
    calls = CallFixture(HOLD_WAIT_SECONDS="0")
    other = calls.ledger.reserve(Run("run", MINIMUM_HOLD), Kind.EMBEDDING, 1, 1, 60)
    with pytest.raises(RunBusyError):
        calls.infer(calls.call(budget=MINIMUM_HOLD))
    assert calls.upstream.bodies == []
    calls.ledger.release(other)
    calls.infer(calls.call(budget=MINIMUM_HOLD))


def test_a_call_refused_for_its_budget_has_no_usage_and_costs_nothing() -> None:
    def check(row: tuple[int, type[Exception]]) -> None:
        budget, error = row
        calls = CallFixture(HOLD_WAIT_SECONDS="0.02")
        calls.ledger.reserve(Run("run", budget), Kind.EMBEDDING, 1, 1, 60)
        call = calls.call(budget=budget)
        with pytest.raises(error):
            calls.infer(call)
        assert (call.run_usage, call.cost_nanousd) == (None, 0)

    check_rows([(MINIMUM_HOLD - 1, BudgetExhaustedError), (MINIMUM_HOLD, RunBusyError)], check)


def test_calls_above_the_limits_reach_neither_the_ledger_nor_the_upstream() -> None:
    calls = CallFixture(MAX_CONCURRENT_CALLS="2", MAX_CONCURRENT_CALLS_PER_RUN="1")
    with calls.admission.enter("one"), calls.admission.enter("other"), pytest.raises(OverloadedError):
        calls.infer()
    calls.admission.close()
    with pytest.raises(DrainingError):
        calls.embed()
    assert calls.upstream.bodies == []
    assert calls.ledger.usage("run") is None


def test_nothing_is_sent_if_the_ledger_does_not_answer(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailableError

    monkeypatch.setattr(calls.ledger, "reserve", fail)
    with pytest.raises(LedgerUnavailableError):
        calls.infer()
    assert calls.upstream.bodies == []
    assert calls.admission.in_flight == 0


def test_a_large_answer_in_one_piece_is_read_in_a_thread(calls: CallFixture) -> None:
    def check(row: tuple[int, bool, bool]) -> None:
        size_bytes, drains, in_thread = row
        calls.upstream.answer = b"x" * size_bytes
        if drains:
            calls.service.turns.drain()
        calls.service.complete(calls.call(), chat_of()).release()
        recorded, thread = calls.upstream.recorded.pop()
        assert (recorded, thread != get_ident()) == (size_bytes, in_thread)

    rows = [(LARGE_BYTES, False, False), (LARGE_BYTES + 1, False, True), (LARGE_BYTES + 1, True, True)]
    check_rows(rows, check)


def test_the_cost_is_written_into_a_large_answer_in_a_thread(
    calls: CallFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    def record(answer: bytes, cost_nanousd: int, _: Usage) -> bytes:
        seen.append((get_ident() != own_thread, cost_nanousd))
        return answer

    def check(row: tuple[int, bool]) -> None:
        size_bytes, in_thread = row
        calls.upstream.answer = b"x" * size_bytes
        call = calls.call()
        calls.service.complete(call, replace(chat_of(), shows_cost=True)).release()
        assert call.run_usage is not None
        assert call.cost_nanousd > 0
        assert seen.pop() == (in_thread, call.cost_nanousd)

    own_thread = get_ident()
    monkeypatch.setattr("ridges_proxy.calls.service.with_cost", record)
    check_rows([(LARGE_BYTES, False), (LARGE_BYTES + 1, True)], check)
