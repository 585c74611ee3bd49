from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Price, Usage
from ridges_proxy.billing.quote import TimePricing, TokenPricing
from ridges_proxy.billing.settlement import settlement_nanousd
from ridges_proxy.upstream import Attempt
from tests.support.table import check_rows

if TYPE_CHECKING:
    from ridges_proxy.billing.settlement import CallPricing

PER_TOKEN = TokenPricing(Price(1_000_000, 2_000_000), prompt_tokens=100)
"""1 nano-USD a prompt token, 2 a completion token; the bound of the prompt is 100 tokens."""

CACHING = TokenPricing(Price(1_000_000, 2_000_000, 250_000), prompt_tokens=100)
"""Like PER_TOKEN, with a quarter of a nano-USD for a cached token."""

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


def taking(seconds: float, **facts: object) -> Attempt:
    return answering(started_at=1000.0, ended_at=1000.0 + seconds, **facts)


Row = tuple[str, Attempt, int | None]
"""The case, the facts of the attempt, and the cost that its hold is settled at."""

BY_TOKEN: list[Row] = [
    # The upstream was never reached, or it answered an error status: released.
    ("connection refused, DNS, or connect timeout", NEVER_CONNECTED, RELEASED),
    ("started, but never connected", Attempt(started_at=1.0, ended_at=9.0), RELEASED),
    ("an error status", REFUSED, RELEASED),
    ("an error status with a usage", Attempt(sent=True, refused=True, usage=Usage(9, 9)), RELEASED),
    # The request was sent, and no answer began: settled at the hold.
    ("no answer at all", SILENT, HOLD),
    # Broke off, timed out, cut off, or client gone: settled at the larger of bound and usage, up to the hold.
    ("a 200 without content", answering(), 100),
    ("cut off after 50 bytes of text", answering(received_tokens=50), 100 + 2 * 50),
    ("cut off after text above the hold", answering(received_tokens=5000), HOLD),
    ("cut off, lower usage", answering(received_tokens=50, usage=Usage(40, 9)), 200),
    ("cut off, higher usage", answering(received_tokens=50, usage=Usage(90, 100)), 290),
    ("cut off, usage above the hold", answering(received_tokens=50, usage=Usage(90, 900)), HOLD),
    # A complete answer: settled at the usage, or else at the bound.
    ("complete, usage", answering(complete=True, received_tokens=50, usage=Usage(40, 9)), 40 + 18),
    # A complete answer that disproves the usage: settled at the larger of the two.
    (
        "complete, disproved by events",
        answering(complete=True, received_tokens=80, deltas=500, usage=Usage(40, 9)),
        260,
    ),
    (
        "complete, disproved by bytes",
        answering(complete=True, received_tokens=80, text_bytes=5000, usage=Usage(1, 1)),
        260,
    ),
    (
        "complete, disproved, bound above the hold",
        answering(complete=True, received_tokens=900, deltas=500, usage=Usage(1, 1)),
        HOLD,
    ),
    (
        "complete, disproved, usage above the hold",
        answering(complete=True, deltas=500, usage=Usage(900, 1)),
        902,
    ),
    ("complete, usage equal to the hold", answering(complete=True, usage=Usage(100, 100)), HOLD),
    ("complete, usage above the hold", answering(complete=True, usage=Usage(100, 1000)), 2100),
    ("complete, no usage", answering(complete=True, received_tokens=50), 200),
    ("complete, no usage, bound above the hold", answering(complete=True, received_tokens=5000), HOLD),
    ("complete, empty, no usage", answering(complete=True), 100),
]

BY_SECOND: list[Row] = [
    ("never connected", Attempt(started_at=1.0, ended_at=6.0), RELEASED),
    ("an error status", Attempt(sent=True, refused=True, started_at=1.0, ended_at=6.0), RELEASED),
    ("no answer at all", Attempt(sent=True, started_at=1.0, ended_at=6.0), HOLD),
    ("cut off after 5 seconds", taking(5), 50),
    ("cut off after an hour", taking(3600), HOLD),
    ("complete after 5 seconds", taking(5, complete=True), 50),
    ("complete after a fraction of a second", taking(0.25, complete=True), 3),
    ("complete after more seconds than held", taking(40, complete=True), 400),
]

WITH_A_CACHE: list[Row] = [
    ("complete, part cached", answering(complete=True, usage=Usage(80, 9, 40)), 40 + 10 + 18),
    ("complete, all cached", answering(complete=True, usage=Usage(80, 9, 80)), 20 + 18),
    ("complete, nothing cached", answering(complete=True, usage=Usage(80, 9)), 80 + 18),
    ("complete, no usage", answering(complete=True, received_tokens=9), 100 + 18),
    ("cut off, part cached", answering(received_tokens=9, usage=Usage(80, 9, 40)), 100 + 18),
    ("cut off, no usage", answering(), 100),
    ("no answer at all", SILENT, HOLD),
]


def check_settlements(rows: list[Row], pricing: CallPricing) -> None:
    def check(row: Row) -> None:
        case, attempt, cost = row
        assert settlement_nanousd(attempt, pricing, HOLD) == cost, case

    check_rows(rows, check)


def test_a_hold_on_tokens_is_settled_by_the_table() -> None:
    check_settlements(BY_TOKEN, PER_TOKEN)


def test_a_hold_on_time_is_settled_by_the_table() -> None:
    check_settlements(BY_SECOND, PER_SECOND)


def test_cached_tokens_count_only_if_a_complete_answer_reports_them() -> None:
    check_settlements(WITH_A_CACHE, CACHING)


def test_the_reported_cost_and_the_bound_of_an_attempt() -> None:
    attempt = taking(5, received_tokens=7, usage=Usage(3, 4))

    assert (PER_TOKEN.reported_nanousd(attempt), PER_TOKEN.bound_nanousd(attempt)) == (3 + 8, 100 + 14)
    assert (PER_SECOND.reported_nanousd(attempt), PER_SECOND.bound_nanousd(attempt)) == (50, 50)
    assert PER_TOKEN.reported_nanousd(answering()) is None


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
pricings = st.builds(TokenPricing, st.builds(Price, counts, counts), counts) | st.builds(TimePricing, counts)


@given(attempt=attempts, pricing=pricings, hold=st.integers(0, 10**7))
def test_only_the_usage_of_a_complete_answer_costs_more_than_the_hold(
    attempt: Attempt, pricing: CallPricing, hold: int
) -> None:
    cost = settlement_nanousd(attempt, pricing, hold)

    if cost is None:
        assert attempt.refused or not attempt.sent
    else:
        assert cost >= 0
        assert cost <= hold or (attempt.complete and cost == pricing.reported_nanousd(attempt))


@given(attempt=attempts, pricing=pricings, hold=st.integers(0, 10**7))
def test_an_incomplete_answer_costs_at_least_its_bound(
    attempt: Attempt, pricing: CallPricing, hold: int
) -> None:
    attempt.sent, attempt.refused, attempt.complete = True, False, False

    cost = settlement_nanousd(attempt, pricing, hold)

    assert cost is not None
    assert cost >= min(hold, pricing.bound_nanousd(attempt))
    assert cost >= min(hold, pricing.reported_nanousd(attempt) or 0) if attempt.answering else cost == hold
