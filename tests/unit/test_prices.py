from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import (
    MAX_COUNTED_TOKENS,
    TOKENS_PER_PRICE,
    Price,
    Usage,
    seconds_cost_nanousd,
)
from tests.support.table import check_rows

rates = st.integers(0, 10**12)
tokens = st.integers(0, MAX_COUNTED_TOKENS)
amounts = st.integers(0, 10**15)


# --- the cost of tokens ------------------------------------------------------------------------------------

COSTS = [
    (Price(270_000_000, 270_000_000), Usage(0, 0), 0),
    (Price(270_000_000, 270_000_000), Usage(1, 0), 270),
    (Price(270_000_000, 1_100_000_000), Usage(1000, 100), 270_000 + 110_000),
    (Price(1, 0), Usage(1, 0), 1),
    (Price(1, 0), Usage(1_000_000, 0), 1),
    (Price(1, 0), Usage(1_000_001, 0), 2),
    (Price(1, 1), Usage(1, 1), 1),
    (Price(1, 1), Usage(999_999, 2), 2),
    (Price(0, 0), Usage(10**9, 10**9), 0),
    (Price(10**15, 10**15), Usage(10**9, 10**9), 2 * 10**18),
]

COSTS_WITH_A_CACHE = [
    (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 0), 100 + 20),
    (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 40), 60 + 10 + 20),
    (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 100), 25 + 20),
    (Price(1_000_000, 2_000_000, 0), Usage(100, 10, 100), 20),
    (Price(1_000_000, 2_000_000), Usage(100, 10, 40), 100 + 20),
    (Price(3, 3, 1), Usage(100_000, 0, 100_000), 1),
    (Price(4, 1, 3), Usage(3, 1, 2), 1),
]


def test_a_cost_is_rounded_up_once_with_and_without_cached_tokens() -> None:
    def check(row: tuple[Price, Usage, int]) -> None:
        price, usage, nanousd = row
        assert price.cost_nanousd(usage) == nanousd

    check_rows(COSTS + COSTS_WITH_A_CACHE, check)


@given(price=st.builds(Price, rates, rates), usage=st.builds(Usage, tokens, tokens))
def test_a_cost_is_the_exact_cost_rounded_up(price: Price, usage: Usage) -> None:
    exact = Fraction(
        usage.prompt_tokens * price.input_nanousd + usage.completion_tokens * price.output_nanousd,
        TOKENS_PER_PRICE,
    )

    assert price.cost_nanousd(usage) == ceil(exact)


@given(
    price=st.builds(Price, rates, st.integers(1, 10**12)),
    amount=amounts | st.integers(0, 1000),
    prompt=tokens | st.integers(0, 100_000),
)
@example(price=Price(1, 1), amount=1, prompt=1_000_000)
@example(price=Price(1, 1), amount=1, prompt=1_000_001)
@example(price=Price(0, 3), amount=0, prompt=5)
def test_the_affordable_completion_tokens_are_the_maximum(price: Price, amount: int, prompt: int) -> None:
    completion = price.completion_tokens_for(amount, prompt)

    assert isinstance(completion, int)
    assert completion >= 0
    if price.cost_nanousd(Usage(prompt, 0)) <= amount:
        assert price.cost_nanousd(Usage(prompt, completion)) <= amount
        assert price.cost_nanousd(Usage(prompt, completion + 1)) > amount
    else:
        assert completion == 0


@given(price=st.builds(Price, rates, rates), amount=amounts, prompt=tokens)
def test_no_completion_token_is_affordable_if_the_prompt_is_not(
    price: Price, amount: int, prompt: int
) -> None:
    if price.cost_nanousd(Usage(prompt, 0)) > amount:
        assert price.completion_tokens_for(amount, prompt) == 0


def test_free_completion_tokens_are_not_limited_by_the_amount() -> None:
    assert Price(5, 0).completion_tokens_for(5, 1_000_000) == MAX_COUNTED_TOKENS
    assert Price(5, 0).completion_tokens_for(5, 1_000_001) == 0


@given(price=st.builds(Price, rates, rates), prompt=st.integers(0, 10**6), completion=st.integers(0, 10**6))
def test_a_hold_for_a_call_pays_for_that_call(price: Price, prompt: int, completion: int) -> None:
    hold = price.cost_nanousd(Usage(prompt, completion))

    assert price.completion_tokens_for(hold, prompt) >= completion


# --- cached tokens -----------------------------------------------------------------------------------------


@st.composite
def usages_with_a_cache(draw: st.DrawFn) -> Usage:
    prompt = draw(tokens)
    return Usage(prompt, draw(tokens), draw(st.integers(0, prompt)))


@st.composite
def prices_with_a_cache(draw: st.DrawFn) -> Price:
    rate = draw(rates)
    return Price(rate, draw(rates), draw(st.none() | st.integers(0, rate)))


@given(price=prices_with_a_cache(), usage=usages_with_a_cache())
def test_a_cost_is_at_least_that_of_all_cached_and_at_most_that_of_nothing_cached(
    price: Price, usage: Usage
) -> None:
    cost = price.cost_nanousd(usage)
    all_cached = Usage(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens)

    assert price.cost_nanousd(all_cached) <= cost
    assert cost <= price.cost_nanousd(Usage(usage.prompt_tokens, usage.completion_tokens))


@given(price=prices_with_a_cache(), usage=usages_with_a_cache())
def test_a_cost_with_a_cache_is_the_exact_cost_rounded_up(price: Price, usage: Usage) -> None:
    cached_rate = price.input_nanousd if price.cached_input_nanousd is None else price.cached_input_nanousd
    exact = Fraction(
        (usage.prompt_tokens - usage.cached_tokens) * price.input_nanousd
        + usage.cached_tokens * cached_rate
        + usage.completion_tokens * price.output_nanousd,
        TOKENS_PER_PRICE,
    )

    assert price.cost_nanousd(usage) == ceil(exact)


# --- the cost of time --------------------------------------------------------------------------------------

TIMES = [
    (0.0, 100_000, 0),
    (1.0, 100_000, 100_000),
    (0.5, 100_000, 50_000),
    (1e-9, 1, 1),
    (1e-12, 100_000, 1),
    (0.1, 100_000, 10_000),
    (30.0, 100_000, 3_000_000),
    (5.0, 0, 0),
    (-1.0, 100_000, 0),
    (86_400.0, 10**15, 86_400 * 10**15),
]


def test_a_time_costs_its_seconds_rounded_up() -> None:
    def check(row: tuple[float, int, int]) -> None:
        seconds, rate, nanousd = row
        assert seconds_cost_nanousd(seconds, rate) == nanousd

    check_rows(TIMES, check)


@given(seconds=st.floats(0, 100_000), rate=rates)
def test_the_cost_of_a_time_is_exact_but_for_a_nanosecond(seconds: float, rate: int) -> None:
    exact = Fraction(seconds) * rate
    # The cost rounds up to a nanosecond, and a float's product may err in its last place.
    margin = rate * (Fraction(1, 10**9) + Fraction(seconds) / 2**52) + 1

    assert exact - margin < seconds_cost_nanousd(seconds, rate) <= exact + margin
