from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Price, Usage
from ridges_proxy.billing.quote import TimePricing, TokenPricing
from ridges_proxy.billing.settlement import settlement_nanousd
from ridges_proxy.upstream import Attempt

if TYPE_CHECKING:
    from ridges_proxy.billing.settlement import CallPricing

PER_TOKEN = TokenPricing(Price(1_000_000, 2_000_000), prompt_tokens=100)
"""1 nano-USD a prompt token, 2 a completion token; the prompt's bound is 100."""

PER_SECOND = TimePricing(10)
HOLD = 300

RELEASED = None
NEVER_CONNECTED = Attempt()
REFUSED = Attempt(sent=True, refused=True, upstream_status=503)
SILENT = Attempt(sent=True)


def answering(**facts: object) -> Attempt:
    attempt = Attempt(sent=True, answering=True, upstream_status=200)
    for name, value in facts.items():
        setattr(attempt, name, value)
    return attempt


@pytest.mark.parametrize(
    ("what_happened", "attempt", "owed"),
    [
        # Never reached the upstream, or it answered an error: released.
        ("refused, no such name, or a timeout while connecting", NEVER_CONNECTED, RELEASED),
        ("started, but never connected", Attempt(started_at=1.0, ended_at=9.0), RELEASED),
        ("an error status", REFUSED, RELEASED),
        (
            "an error status, whatever else it says",
            Attempt(sent=True, refused=True, usage=Usage(9, 9)),
            RELEASED,
        ),
        # Sent, and nothing came back: settled at the hold.
        ("no answer at all", SILENT, HOLD),
        # Broken, timed out, cut, or the client hung up: settled at the bound of what was seen.
        ("a 200 and no more", answering(), 100),
        ("cut after 50 bytes of text", answering(received_tokens=50), 100 + 2 * 50),
        ("cut after text that counts more than the hold", answering(received_tokens=5000), HOLD),
        ("cut, with usage that says less", answering(received_tokens=50, usage=Usage(40, 9)), 200),
        ("cut, with usage that says more", answering(received_tokens=50, usage=Usage(90, 100)), 290),
        ("cut, with usage above the hold", answering(received_tokens=50, usage=Usage(90, 900)), HOLD),
        # A whole answer: settled at the usage, or else at the bound.
        ("whole, with usage", answering(complete=True, received_tokens=50, usage=Usage(40, 9)), 40 + 18),
        # … or, where the answer refutes the usage, at the larger of the two.
        ("whole, refuted", answering(complete=True, received_tokens=80, deltas=500, usage=Usage(40, 9)), 260),
        (
            "whole, refuted by bytes",
            answering(complete=True, received_tokens=80, text_bytes=5000, usage=Usage(1, 1)),
            260,
        ),
        (
            "whole, refuted, much came",
            answering(complete=True, received_tokens=900, deltas=500, usage=Usage(1, 1)),
            HOLD,
        ),
        (
            "whole, refuted, and above the hold",
            answering(complete=True, deltas=500, usage=Usage(900, 1)),
            902,
        ),
        ("whole, with usage of the hold", answering(complete=True, usage=Usage(100, 100)), HOLD),
        ("whole, with usage above the hold", answering(complete=True, usage=Usage(100, 1000)), 2100),
        ("whole, without usage", answering(complete=True, received_tokens=50), 200),
        ("whole, without usage, above the hold", answering(complete=True, received_tokens=5000), HOLD),
        ("whole, empty, without usage", answering(complete=True), 100),
    ],
)
def test_a_hold_on_tokens_becomes(what_happened: str, attempt: Attempt, owed: int | None) -> None:
    assert settlement_nanousd(attempt, PER_TOKEN, HOLD) == owed, what_happened


def taking(seconds: float, **facts: object) -> Attempt:
    return answering(started_at=1000.0, ended_at=1000.0 + seconds, **facts)


@pytest.mark.parametrize(
    ("what_happened", "attempt", "owed"),
    [
        ("never connected", Attempt(started_at=1.0, ended_at=6.0), RELEASED),
        ("an error status", Attempt(sent=True, refused=True, started_at=1.0, ended_at=6.0), RELEASED),
        ("no answer at all", Attempt(sent=True, started_at=1.0, ended_at=6.0), HOLD),
        ("cut after 5 seconds", taking(5), 50),
        ("cut after an hour", taking(3600), HOLD),
        ("whole after 5 seconds", taking(5, complete=True), 50),
        ("whole after a part of a second", taking(0.25, complete=True), 3),
        ("whole after more seconds than were held", taking(40, complete=True), 400),
    ],
)
def test_a_hold_on_time_becomes(what_happened: str, attempt: Attempt, owed: int | None) -> None:
    assert settlement_nanousd(attempt, PER_SECOND, HOLD) == owed, what_happened


def test_what_the_tariffs_report_and_bound() -> None:
    seen = taking(5, received_tokens=7, usage=Usage(3, 4))

    assert (PER_TOKEN.reported_nanousd(seen), PER_TOKEN.bound_nanousd(seen)) == (3 + 8, 100 + 14)
    assert (PER_SECOND.reported_nanousd(seen), PER_SECOND.bound_nanousd(seen)) == (50, 50)
    assert PER_TOKEN.reported_nanousd(answering()) is None


CACHING = TokenPricing(Price(1_000_000, 2_000_000, 250_000), prompt_tokens=100)
"""As PER_TOKEN, and a quarter of a nano-USD for a token that was cached."""


@pytest.mark.parametrize(
    ("what_happened", "attempt", "owed"),
    [
        ("whole, with a part cached", answering(complete=True, usage=Usage(80, 9, 40)), 40 + 10 + 18),
        ("whole, all cached", answering(complete=True, usage=Usage(80, 9, 80)), 20 + 18),
        ("whole, nothing cached", answering(complete=True, usage=Usage(80, 9)), 80 + 18),
        ("whole, without usage", answering(complete=True, received_tokens=9), 100 + 18),
        ("cut, with a part cached", answering(received_tokens=9, usage=Usage(80, 9, 40)), 100 + 18),
        ("cut, and nothing is known", answering(), 100),
        ("no answer at all", SILENT, HOLD),
    ],
)
def test_a_cache_counts_only_where_a_whole_answer_reports_it(
    what_happened: str, attempt: Attempt, owed: int
) -> None:
    assert settlement_nanousd(attempt, CACHING, HOLD) == owed, what_happened


counts = st.integers(0, 10**6)
attempts = st.builds(
    Attempt,
    sent=st.booleans(),
    refused=st.booleans(),
    answering=st.booleans(),
    complete=st.booleans(),
    usage=st.none() | st.builds(Usage, counts, counts),
    received_tokens=counts,
    started_at=st.just(1000.0),
    ended_at=st.floats(1000, 2000),
)
tariffs = st.builds(TokenPricing, st.builds(Price, counts, counts), counts) | st.builds(TimePricing, counts)


@hypothesis_settings(deadline=None, derandomize=True, max_examples=400)
@given(attempt=attempts, pricing=tariffs, hold=st.integers(0, 10**7))
def test_only_the_report_of_a_whole_answer_costs_more_than_the_hold(
    attempt: Attempt, pricing: CallPricing, hold: int
) -> None:
    owed = settlement_nanousd(attempt, pricing, hold)

    if owed is None:
        assert attempt.refused or not attempt.sent
    else:
        assert owed >= 0
        assert owed <= hold or (attempt.complete and owed == pricing.reported_nanousd(attempt))


@hypothesis_settings(deadline=None, derandomize=True, max_examples=400)
@given(attempt=attempts, pricing=tariffs, hold=st.integers(0, 10**7))
def test_a_break_never_makes_a_call_cheaper_than_what_was_seen_of_it(
    attempt: Attempt, pricing: CallPricing, hold: int
) -> None:
    attempt.sent, attempt.refused, attempt.complete = True, False, False

    owed = settlement_nanousd(attempt, pricing, hold)

    assert owed is not None
    assert owed >= min(hold, pricing.bound_nanousd(attempt))
    assert owed >= min(hold, pricing.reported_nanousd(attempt) or 0) if attempt.answering else owed == hold
