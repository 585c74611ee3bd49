from __future__ import annotations

import sys
import unicodedata
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ridges_proxy.billing import bounds
from ridges_proxy.billing.bounds import TOKENS_PER_CALL, TOKENS_PER_MESSAGE, prompt_bound_tokens
from ridges_proxy.billing.money import MAX_USD, NANOUSD_PER_USD, nanousd_from_usd, usd_from_nanousd
from ridges_proxy.billing.prices import (
    MAX_COUNTED_TOKENS,
    TOKENS_PER_PRICE,
    Price,
    Usage,
    seconds_cost_nanousd,
)

if TYPE_CHECKING:
    from decimal import Decimal

rates = st.integers(0, 10**12)
tokens = st.integers(0, MAX_COUNTED_TOKENS)
amounts = st.integers(0, 10**15)
steady = settings(deadline=None, derandomize=True, max_examples=200)


# --- amounts in USD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nanousd"),
    [
        ("0", 0),
        ("-0", 0),
        ("0.0", 0),
        ("2", 2_000_000_000),
        ("2.0", 2_000_000_000),
        (" 2.0\n", 2_000_000_000),
        ("+1", 1_000_000_000),
        ("0.27", 270_000_000),
        ("0.0001", 100_000),
        ("1e-9", 1),
        ("1e-10", 1),
        ("0.0000000001", 1),
        ("1e-999999", 1),
        ("1e-1000000000", 1),
        ("0.1", 100_000_000),
        ("0.3", 300_000_000),
        ("0.1234567891", 123_456_790),
        ("0.123456789", 123_456_789),
        ("1.00000000000000000000000000000000001", 1_000_000_001),
        ("999999.99999999999999999999999999999999", 10**15),
        ("1E3", 10**12),
        ("1000000", 10**15),
        ("1e6", 10**15),
    ],
)
def test_an_amount_in_usd_is_whole_nano_usd_rounded_up(text: str, nanousd: int) -> None:
    assert nanousd_from_usd(text) == nanousd


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "0x1",
        "1,5",
        "$1",
        "1 USD",
        "1.2.3",
        "--1",
        "NaN",
        "sNaN",
        "nan",
        "Infinity",
        "inf",
        "-Infinity",
        "-1",
        "-1e-10",
        "1000000.000000000000000000000000000000001",
        "1000001",
        "1e30",
        "1e999999999",
        "1e99999999999999999999",
    ],
)
def test_what_is_no_amount_in_usd_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="USD"):
        nanousd_from_usd(text)


@steady
@given(amount=st.decimals(0, MAX_USD, allow_nan=False) | st.decimals(0, 1, places=40))
def test_no_amount_is_ever_rounded_down(amount: Decimal) -> None:
    assert nanousd_from_usd(str(amount)) == ceil(Fraction(amount) * NANOUSD_PER_USD)


@steady
@given(nanousd=amounts)
def test_an_amount_shown_in_usd_reads_as_the_same_amount(nanousd: int) -> None:
    assert nanousd_from_usd(f"{usd_from_nanousd(nanousd):.9f}") == nanousd


# --- the cost of tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "usage", "nanousd"),
    [
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
    ],
)
def test_a_cost_is_rounded_up_once(price: Price, usage: Usage, nanousd: int) -> None:
    assert price.cost_nanousd(usage) == nanousd


@steady
@given(price=st.builds(Price, rates, rates), usage=st.builds(Usage, tokens, tokens))
def test_a_cost_is_the_exact_cost_rounded_up(price: Price, usage: Usage) -> None:
    exact = Fraction(
        usage.prompt_tokens * price.input_nanousd + usage.completion_tokens * price.output_nanousd,
        TOKENS_PER_PRICE,
    )

    assert price.cost_nanousd(usage) == ceil(exact)


@steady
@given(
    price=st.builds(Price, rates, st.integers(1, 10**12)),
    amount=amounts | st.integers(0, 1000),
    prompt=tokens | st.integers(0, 100_000),
)
@example(price=Price(1, 1), amount=1, prompt=1_000_000)
@example(price=Price(1, 1), amount=1, prompt=1_000_001)
@example(price=Price(0, 3), amount=0, prompt=5)
def test_the_tokens_that_an_amount_pays_for_are_the_most_it_can(
    price: Price, amount: int, prompt: int
) -> None:
    completion = price.completion_tokens_for(amount, prompt)

    assert completion >= 0
    if price.cost_nanousd(Usage(prompt, 0)) <= amount:
        assert price.cost_nanousd(Usage(prompt, completion)) <= amount
        assert price.cost_nanousd(Usage(prompt, completion + 1)) > amount
    else:
        assert completion == 0


@steady
@given(price=st.builds(Price, rates, rates), amount=amounts, prompt=tokens)
def test_the_prompt_alone_fits_or_no_token_is_paid_for(price: Price, amount: int, prompt: int) -> None:
    if price.cost_nanousd(Usage(prompt, 0)) > amount:
        assert price.completion_tokens_for(amount, prompt) == 0


def test_tokens_that_cost_nothing_have_no_limit_of_money() -> None:
    assert Price(5, 0).completion_tokens_for(5, 1_000_000) == MAX_COUNTED_TOKENS
    assert Price(5, 0).completion_tokens_for(5, 1_000_001) == 0


@steady
@given(price=st.builds(Price, rates, rates), prompt=st.integers(0, 10**6), completion=st.integers(0, 10**6))
def test_a_hold_for_a_call_pays_for_that_call(price: Price, prompt: int, completion: int) -> None:
    hold = price.cost_nanousd(Usage(prompt, completion))

    assert price.completion_tokens_for(hold, prompt) >= completion


# --- what was cached ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "usage", "nanousd"),
    [
        (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 0), 100 + 20),
        (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 40), 60 + 10 + 20),
        (Price(1_000_000, 2_000_000, 250_000), Usage(100, 10, 100), 25 + 20),
        (Price(1_000_000, 2_000_000, 0), Usage(100, 10, 100), 20),
        (Price(1_000_000, 2_000_000), Usage(100, 10, 40), 100 + 20),
        (Price(3, 3, 1), Usage(100_000, 0, 100_000), 1),
        (Price(4, 1, 3), Usage(3, 1, 2), 1),
    ],
)
def test_what_was_cached_costs_its_own_rate_and_the_sum_is_rounded_once(
    price: Price, usage: Usage, nanousd: int
) -> None:
    assert price.cost_nanousd(usage) == nanousd


@st.composite
def cached_usages(draw: st.DrawFn) -> Usage:
    prompt = draw(tokens)
    return Usage(prompt, draw(tokens), draw(st.integers(0, prompt)))


@st.composite
def cached_prices(draw: st.DrawFn) -> Price:
    rate = draw(rates)
    return Price(rate, draw(rates), draw(st.none() | st.integers(0, rate)))


@steady
@given(price=cached_prices(), usage=cached_usages())
def test_a_cache_never_makes_a_call_dearer_than_its_bound_nor_cheaper_than_all_cached(
    price: Price, usage: Usage
) -> None:
    cost = price.cost_nanousd(usage)
    all_cached = Usage(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens)

    assert price.cost_nanousd(all_cached) <= cost
    assert cost <= price.cost_nanousd(Usage(usage.prompt_tokens, usage.completion_tokens))


@steady
@given(price=cached_prices(), usage=cached_usages())
def test_a_cost_with_a_cache_is_the_exact_one_rounded_up(price: Price, usage: Usage) -> None:
    cached_rate = price.input_nanousd if price.cached_input_nanousd is None else price.cached_input_nanousd
    exact = Fraction(
        (usage.prompt_tokens - usage.cached_tokens) * price.input_nanousd
        + usage.cached_tokens * cached_rate
        + usage.completion_tokens * price.output_nanousd,
        TOKENS_PER_PRICE,
    )

    assert price.cost_nanousd(usage) == ceil(exact)


# --- the cost of time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "rate", "nanousd"),
    [
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
    ],
)
def test_a_time_costs_its_seconds_rounded_up(seconds: float, rate: int, nanousd: int) -> None:
    assert seconds_cost_nanousd(seconds, rate) == nanousd


@steady
@given(seconds=st.floats(0, 100_000), rate=rates)
def test_a_time_never_costs_less_than_it_took(seconds: float, rate: int) -> None:
    exact = Fraction(seconds) * rate
    # One nanosecond at most is added, and a float's product may err in its last place.
    margin = rate * (Fraction(1, 10**9) + Fraction(seconds) / 2**52) + 1

    assert exact - margin < seconds_cost_nanousd(seconds, rate) <= exact + margin


# --- the bound of a prompt ---------------------------------------------------------------------------------


def test_a_prompt_counts_at_most_its_bytes_and_what_the_template_adds() -> None:
    assert (TOKENS_PER_MESSAGE, TOKENS_PER_CALL) == (16, 256)
    assert prompt_bound_tokens(b"", 0) == 256
    assert prompt_bound_tokens(b"x" * 1000, 1) == 1000 + 16 + 256
    assert prompt_bound_tokens(b"x" * 1000, 20) == 1000 + 320 + 256


def test_a_prompt_that_normalizes_to_more_bytes_counts_those() -> None:
    grows, shrinks = (
        "\U0001d15e.",
        "e\u0301",
    )  # a musical note of 4 bytes that becomes 8, and a dot; 3 bytes that become 2

    assert prompt_bound_tokens((grows * 100).encode(), 0) == 900 + 256
    assert prompt_bound_tokens((shrinks * 100).encode(), 0) == 300 + 256


MARKS = ["\u0301", "\u0316", "\u0344", "\u0338", "\u0f73", "\U0001d15e", "\U0001d16e"]
"""Above, below, one that becomes two, an overlay, one that falls into two, a note and its flag."""


def test_no_combining_mark_passes_for_a_letter_a_digit_or_a_symbol() -> None:
    marks = [chr(code) for code in range(sys.maxunicode) if unicodedata.combining(chr(code))]

    assert [mark for mark in marks if not bounds._MARKS.fullmatch(mark * 32)] == []


@steady
@given(
    services=st.lists(
        st.tuples(st.sampled_from("a\u01d6\u1f82\uac00\u2260"), st.lists(st.sampled_from(MARKS), max_size=4))
    ),
    times=st.sampled_from([1, 8, 32]),
)
def test_marks_count_at_least_what_normalization_makes_of_them(
    services: list[tuple[str, list[str]]], times: int
) -> None:
    text = "".join(letter + "".join(marks) * times for letter, marks in services)

    for form in (text, unicodedata.normalize("NFC", text)):
        assert prompt_bound_tokens(text.encode(), 0) - 256 >= len(form.encode())


def test_a_body_of_marks_out_of_order_is_counted_without_being_ordered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordered: list[str] = []

    def normalize(_form: str, text: str) -> str:
        ordered.append(text)
        return text

    monkeypatch.setattr("ridges_proxy.billing.bounds.unicodedata.normalize", normalize)
    marks = "\u0301" * 1_000_000 + "\u0316" * 1_000_000

    assert prompt_bound_tokens(f"a{marks}b".encode(), 0) >= 3 * 4_000_000
    assert ordered == ["a b"]


def test_a_line_drawn_in_a_table_counts_its_bytes() -> None:
    assert prompt_bound_tokens(("\u2500" * 200 + "\n\u2502").encode(), 0) == 604 + 256


@steady
@given(sent=st.text(), more=st.text(), messages=st.integers(0, 10**6))
def test_the_bound_covers_each_byte_in_either_form_and_each_message(
    sent: str, more: str, messages: int
) -> None:
    bound = prompt_bound_tokens((sent + more).encode("utf-8", "replace"), messages)

    for form in (sent, unicodedata.normalize("NFC", sent)):
        assert bound > len(form.encode("utf-8", "replace"))
    assert prompt_bound_tokens(sent.encode("utf-8", "replace"), messages + 1) >= (
        prompt_bound_tokens(sent.encode("utf-8", "replace"), messages) + 7
    ), "the most that a known template adds"
