"""The hold of a chat completion and its `max_tokens`, before the call (an estimate) and in it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.calls.call import Call
from ridges_proxy.errors import (
    BudgetExhaustedError,
    DrainingError,
    ModelNotSupportedError,
    OverloadedError,
    ProxyError,
    RunBusyError,
    RunClosedError,
    TooManyInFlightError,
    UpstreamDownError,
)
from ridges_proxy.ledger import Kind, Run, RunUsage, Ticket
from tests.support.call_fixture import (
    BUDGET_NANOUSD,
    FULL_HOLD,
    MAX_TOKENS,
    MINIMUM_HOLD,
    MODEL,
    OUTPUT_NANOUSD,
    PROMPT_NANOUSD,
    CallFixture,
    PatientClient,
    answer,
    chat_of,
)
from tests.support.table import check_rows


@pytest.fixture
def calls() -> CallFixture:
    return CallFixture()


# --- holds


def test_choices_multiply_the_hold_and_max_tokens_is_for_each() -> None:
    def check(choices: int) -> None:
        calls = CallFixture()
        held: list[int] = []
        calls.upstream.script = lambda *_: held.append(calls.usage().held_nanousd)
        call = calls.call()
        calls.service.complete(call, chat_of(choices=choices))
        sent = calls.upstream.body()
        assert held == [choices * FULL_HOLD]
        assert (sent["max_tokens"], sent.get("n", 1)) == (MAX_TOKENS, choices)
        assert (call.attempt.max_tokens, call.attempt.choices) == (MAX_TOKENS, choices)

    check_rows([1, 2, 7], check)


def test_choices_share_a_small_budget() -> None:
    def check(choices: int) -> None:
        calls = CallFixture()
        minimum = choices * MINIMUM_HOLD
        calls.service.complete(
            calls.call(budget=minimum + choices * OUTPUT_NANOUSD - 1), chat_of(choices=choices)
        )
        assert calls.upstream.body()["max_tokens"] == 16
        with pytest.raises(BudgetExhaustedError):
            calls.service.complete(Call(Run("other", minimum - 1), PatientClient()), chat_of(choices=choices))

    check_rows([1, 2, 7], check)


def test_max_tokens_below_the_minimum_is_itself_the_minimum() -> None:
    def check(max_tokens: int) -> None:
        calls = CallFixture()
        minimum = PROMPT_NANOUSD + min(max_tokens, 16) * OUTPUT_NANOUSD
        with pytest.raises(BudgetExhaustedError):
            calls.service.complete(calls.call(budget=minimum - 1), chat_of(max_tokens))
        calls.service.complete(calls.call(budget=minimum), chat_of(max_tokens))
        assert calls.upstream.body()["max_tokens"] == min(max_tokens, 16)

    check_rows([1, 5, 15, 16, 17], check)


def test_a_free_model_gets_all_requested_tokens(calls: CallFixture) -> None:
    calls.service.complete(calls.call(budget=0, model="free-model"), chat_of(1_000_000, 128))
    assert orjson.loads(calls.upstream.bodies[0])["max_tokens"] == 1_000_000


# --- estimates


@given(
    budget=st.integers(0, 600_000),
    spent=st.integers(0, 300_000),
    held=st.integers(0, 300_000),
    kept=st.integers(0, 300_000),
    max_tokens=st.integers(1, 200),
    choices=st.integers(1, 3),
    min_tokens=st.integers(0, 250),
)
def test_an_estimate_agrees_with_the_call(  # noqa: PLR0913, PLR0917 - all that decides about a hold
    budget: int, spent: int, held: int, kept: int, max_tokens: int, choices: int, min_tokens: int
) -> None:
    calls, run = CallFixture(), Run("run", budget, reserved_nanousd=min(kept, budget))
    call = Call(run, PatientClient(), min_tokens=min_tokens)
    with_spend = Run("run", budget + spent + held)
    calls.ledger.settle(calls.ledger.reserve(with_spend, Kind.INFERENCE, spent, 0, 60), spent)
    calls.ledger.reserve(with_spend, Kind.EMBEDDING, held, 0, 60)
    before = calls.usage()
    chat, now_held = chat_of(max_tokens, choices), list[int]()
    calls.upstream.script = lambda *_: now_held.append(calls.usage().held_nanousd - before.held_nanousd)

    estimate = calls.service.estimate(call, chat)

    assert (calls.usage(), calls.upstream.bodies) == (before, [])
    assert (estimate.run_usage.budget_nanousd, estimate.run_usage.spent_nanousd) == (
        budget,
        before.spent_nanousd,
    )
    if estimate.refusal:
        assert (estimate.hold_nanousd, estimate.max_tokens) == (0, 0)
        with pytest.raises(type(estimate.refusal)):
            calls.service.complete(call, chat)
        assert not calls.upstream.bodies
        return
    calls.service.complete(call, chat)
    assert now_held == [estimate.hold_nanousd]
    assert orjson.loads(calls.upstream.bodies[0])["max_tokens"] == estimate.max_tokens
    assert min(max(16, min_tokens), max_tokens) <= estimate.max_tokens <= max_tokens
    assert before.spent_nanousd + before.held_nanousd + estimate.hold_nanousd <= budget - run.reserved_nanousd
    assert estimate.quote.minimum_nanousd <= estimate.hold_nanousd <= estimate.quote.requested_nanousd


@given(budget=st.integers(MINIMUM_HOLD, 600_000), held=st.integers(0, 300_000), kept=st.integers(0, 300_000))
def test_the_state_after_a_call_tells_whether_the_same_call_would_fit(
    budget: int, held: int, kept: int
) -> None:
    run = Run("run", budget + held + kept, reserved_nanousd=kept)
    calls = CallFixture()
    calls.ledger.reserve(run, Kind.EMBEDDING, held, 0, 60)
    calls.upstream.script = answer(complete=True)
    call = Call(run, PatientClient())

    calls.service.complete(call, chat_of())

    refused = calls.service.estimate(Call(run, PatientClient()), chat_of()).refusal is not None
    assert (call.budget_state == "final") == refused


def refusal_of(calls: CallFixture, budget: int = BUDGET_NANOUSD) -> type[ProxyError]:
    refusal = calls.service.estimate(calls.call(budget), chat_of()).refusal
    assert refusal is not None
    return type(refusal)


def test_an_estimate_reports_a_budget_that_is_held() -> None:
    calls = CallFixture()
    calls.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, 1, 60)
    assert refusal_of(calls, budget=FULL_HOLD) is RunBusyError


def test_an_estimate_reports_calls_that_wait_before_it_as_long_as_they_wait() -> None:
    calls = CallFixture()
    blocking = calls.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, 1, 60)
    waits = Ticket("waits", "run")
    with pytest.raises(RunBusyError):
        calls.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, FULL_HOLD, 60, waits)
    calls.ledger.release(blocking)
    estimate = calls.service.estimate(calls.call(FULL_HOLD), chat_of())
    assert (type(estimate.refusal), estimate.hold_nanousd, estimate.waiting) == (RunBusyError, 0, 1)
    assert calls.ledger.waiting("run") == 1, "an estimate does not wait itself"
    assert refusal_of(calls, budget=MINIMUM_HOLD - 1) is BudgetExhaustedError
    calls.ledger.leave(waits)
    assert calls.service.estimate(calls.call(FULL_HOLD), chat_of()).hold_nanousd == FULL_HOLD


def test_an_estimate_reports_each_refusal_of_the_call() -> None:
    calls = CallFixture(MAX_CONCURRENT_CALLS="2", MAX_CONCURRENT_CALLS_PER_RUN="1")
    assert refusal_of(calls, budget=1) is BudgetExhaustedError
    calls.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, 1, 60)
    assert refusal_of(calls) is TooManyInFlightError
    with calls.admission.enter("one"), calls.admission.enter("other"):
        assert refusal_of(calls) is OverloadedError
    calls.admission.close()
    assert refusal_of(calls) is DrainingError
    calls.ledger.close(Run("run", BUDGET_NANOUSD))
    with pytest.raises(RunClosedError):
        refusal_of(calls)


def test_an_estimate_reports_the_circuit_breaker_of_its_model_and_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = CallFixture()

    def check(model: str, run_id: str) -> None:
        raise UpstreamDownError({(MODEL, "run"): 7}[model, run_id])

    monkeypatch.setattr(calls.service.circuits, "check", check)
    estimate = calls.service.estimate(calls.call(), chat_of())
    assert isinstance(estimate.refusal, UpstreamDownError)
    assert estimate.refusal.retry_after_seconds == 7
    assert estimate.quote.requested_nanousd == FULL_HOLD


def test_an_estimate_does_not_add_its_run_to_the_ledger(calls: CallFixture) -> None:
    estimate = calls.service.estimate(calls.call(), chat_of())
    assert estimate.hold_nanousd == FULL_HOLD
    assert estimate.run_usage == RunUsage("run", BUDGET_NANOUSD)
    assert calls.ledger.usage("run") is None


def test_an_estimate_for_a_model_without_a_price_is_refused(calls: CallFixture) -> None:
    with pytest.raises(ModelNotSupportedError):
        calls.service.estimate(calls.call(model="another"), chat_of())
