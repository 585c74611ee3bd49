"""What a call would hold and what it is asked to keep to: an estimate, choices, and a tight budget."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridges_proxy.calls.service import Call
from ridges_proxy.errors import (
    BudgetExhaustedError,
    BudgetHeldError,
    DrainingError,
    ModelNotSupportedError,
    OverloadedError,
    ProxyError,
    RunClosedError,
    TooManyInFlightError,
)
from ridges_proxy.ledger import Kind, Run, RunUsage
from tests.support.shop import (
    CAP_NANOUSD,
    FULL_HOLD,
    MAX_TOKENS,
    OUTPUT_NANOUSD,
    PROMPT_NANOUSD,
    PatientClient,
    Shop,
    chat_of,
)


@pytest.fixture
def shop() -> Shop:
    return Shop()


# --- want, floor and hold ----------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [1, 2, 7])
def test_choices_multiply_the_hold_and_what_is_asked_for_is_for_each(choices: int) -> None:
    shop = Shop()
    held: list[int] = []
    shop.upstream.script = lambda attempt, _: held.append(shop.books().held_nanousd or attempt.choices)
    call = shop.call()
    shop.calls.complete(call, chat_of(choices=choices))
    sent = orjson.loads(shop.upstream.bodies[0])
    assert held == [choices * FULL_HOLD]
    assert (sent["max_tokens"], sent.get("n", 1)) == (MAX_TOKENS, choices)
    assert (call.attempt.max_tokens, call.attempt.choices) == (MAX_TOKENS, choices)


@pytest.mark.parametrize("choices", [1, 2, 7])
def test_a_tight_budget_is_shared_by_the_choices(choices: int) -> None:
    shop = Shop()
    least = choices * (PROMPT_NANOUSD + 16 * OUTPUT_NANOUSD)
    shop.calls.complete(shop.call(cap=least + choices * OUTPUT_NANOUSD - 1), chat_of(choices=choices))
    assert orjson.loads(shop.upstream.bodies[0])["max_tokens"] == 16
    with pytest.raises(BudgetExhaustedError):
        shop.calls.complete(Call(Run("other", least - 1), PatientClient()), chat_of(choices=choices))


@pytest.mark.parametrize("max_tokens", [1, 5, 15, 16, 17])
def test_a_limit_below_the_least_answer_is_its_own_floor(shop: Shop, max_tokens: int) -> None:
    floor = PROMPT_NANOUSD + min(max_tokens, 16) * OUTPUT_NANOUSD
    with pytest.raises(BudgetExhaustedError):
        shop.calls.complete(shop.call(cap=floor - 1), chat_of(max_tokens))
    shop.calls.complete(shop.call(cap=floor), chat_of(max_tokens))
    assert orjson.loads(shop.upstream.bodies[0])["max_tokens"] == min(max_tokens, 16)


def test_a_free_model_asks_for_all_that_was_named(shop: Shop) -> None:
    shop.calls.complete(shop.call(cap=0, model="free-model"), chat_of(1_000_000, 128))
    assert orjson.loads(shop.upstream.bodies[0])["max_tokens"] == 1_000_000


# --- estimates ---------------------------------------------------------------------------------------------


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(
    cap=st.integers(0, 600_000),
    spent=st.integers(0, 300_000),
    held=st.integers(0, 300_000),
    max_tokens=st.integers(1, 200),
    choices=st.integers(1, 3),
)
def test_an_estimate_says_what_the_call_would_then_hold_or_be_refused_for(
    cap: int, spent: int, held: int, max_tokens: int, choices: int
) -> None:
    shop, run = Shop(), Run("run", cap)
    with_spend = Run("run", cap + spent + held)
    shop.ledger.settle(shop.ledger.reserve(with_spend, Kind.INFERENCE, spent, 0, 60), spent)
    shop.ledger.reserve(with_spend, Kind.EMBEDDING, held, 0, 60)
    before = shop.books()
    chat, now_held = chat_of(max_tokens, choices), list[int]()
    shop.upstream.script = lambda *_: now_held.append(shop.books().held_nanousd - before.held_nanousd)

    estimate = shop.calls.estimate(Call(run, PatientClient()), chat)

    assert (shop.books(), shop.upstream.bodies) == (before, [])
    assert (estimate.books.budget_nanousd, estimate.books.spent_nanousd) == (cap, before.spent_nanousd)
    if estimate.refusal:
        assert (estimate.hold_nanousd, estimate.max_tokens) == (0, 0)
        with pytest.raises(type(estimate.refusal)):
            shop.calls.complete(Call(run, PatientClient()), chat)
        return
    shop.calls.complete(Call(run, PatientClient()), chat)
    assert now_held == [estimate.hold_nanousd]
    assert orjson.loads(shop.upstream.bodies[0])["max_tokens"] == estimate.max_tokens
    assert estimate.quote.minimum_nanousd <= estimate.hold_nanousd <= estimate.quote.requested_nanousd


def refusal_of(shop: Shop, cap: int = CAP_NANOUSD) -> type[ProxyError]:
    refusal = shop.calls.estimate(shop.call(cap), chat_of()).refusal
    assert refusal is not None
    return type(refusal)


def test_an_estimate_tells_that_the_budget_is_held() -> None:
    shop = Shop()
    shop.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, 1, 60)
    assert refusal_of(shop, cap=FULL_HOLD) is BudgetHeldError


def test_an_estimate_tells_every_refusal_that_the_call_would_meet() -> None:
    shop = Shop(MAX_CONCURRENT_CALLS="2", MAX_CONCURRENT_CALLS_PER_RUN="1")
    assert refusal_of(shop, cap=1) is BudgetExhaustedError
    shop.ledger.reserve(Run("run", FULL_HOLD), Kind.EMBEDDING, FULL_HOLD, 1, 60)
    assert refusal_of(shop) is TooManyInFlightError
    with shop.admission.enter("one"), shop.admission.enter("other"):
        assert refusal_of(shop) is OverloadedError
    shop.admission.drain()
    assert refusal_of(shop) is DrainingError
    shop.ledger.close(Run("run", CAP_NANOUSD))
    with pytest.raises(RunClosedError):
        refusal_of(shop)


def test_an_estimate_of_a_run_not_seen_makes_it_no_known_one(shop: Shop) -> None:
    estimate = shop.calls.estimate(shop.call(), chat_of())
    assert estimate.hold_nanousd == FULL_HOLD
    assert estimate.books == RunUsage("run", CAP_NANOUSD)
    assert shop.ledger.usage("run") is None


def test_an_estimate_for_a_model_without_a_price_is_refused(shop: Shop) -> None:
    with pytest.raises(ModelNotSupportedError):
        shop.calls.estimate(shop.call(model="another"), chat_of())
