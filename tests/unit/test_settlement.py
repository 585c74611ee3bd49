from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Price, Usage
from ridges_proxy.billing.quote import TimePricing, TokenPricing
from ridges_proxy.billing.settlement import settlement_nanousd
from ridges_proxy.upstream import Attempt
from ridges_proxy.upstream.progress import Progress
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


def reporting(*reports: tuple[float, int], ended_at: float, **facts: object) -> Attempt:
    """An attempt whose chunks reported completion tokens at these times, with a prompt of 40."""
    attempt = answering(choices=facts.pop("choices", 1), ended_at=ended_at)
    for at, tokens in reports:
        attempt.progress.now = at
        attempt.record_usage(Usage(40, tokens))
    for name, value in facts.items():
        setattr(attempt, name, value)
    return attempt


def early(prompt_tokens: int, completion_tokens: int, **facts: object) -> Attempt:
    """A complete answer with text behind its usage."""
    usage = Usage(prompt_tokens, completion_tokens)
    return answering(complete=True, usage=usage, deltas_at_usage=1, deltas=2, **facts)


def silent(longest: float = 0.0, at_the_end: float = 0.0, **facts: object) -> Attempt:
    """An attempt with pauses of so many seconds."""
    progress = Progress(last_text_at=100.0, longest_pause_seconds=longest)
    return answering(progress=progress, ended_at=100.0 + at_the_end, **facts)


BY_TOKEN: list[Row] = [
    # The upstream was never reached, or it answered an error status: released.
    ("connection refused, DNS, or connect timeout", NEVER_CONNECTED, RELEASED),
    ("started, but never connected", Attempt(started_at=1.0, ended_at=9.0), RELEASED),
    ("an error status", REFUSED, RELEASED),
    ("an error status with a usage", Attempt(sent=True, refused=True, usage=Usage(9, 9)), RELEASED),
    # The request was sent, and no answer began: settled at the hold.
    ("no answer at all", SILENT, HOLD),
    # Broke off, timed out, cut off, or client gone, without a usage: settled at the bound, up to the hold.
    ("a 200 without content", answering(), 100),
    ("cut off after 50 bytes of text", answering(received_tokens=50), 100 + 2 * 50),
    ("cut off after text above the hold", answering(received_tokens=5000), HOLD),
    ("the text stopped 70 ms before the end", silent(0.1, 0.0695, received_tokens=50), 100 + 2 * (50 + 20)),
    ("the same, two choices", silent(0.1, 0.0695, received_tokens=20, choices=2), 100 + 2 * (20 + 40)),
    # Without a usage, and with tokens that may not have been sent: settled at the hold.
    ("cut off, hidden tokens", answering(received_tokens=50, hides_tokens=True), HOLD),
    ("complete, hidden tokens, no usage", answering(complete=True, hides_tokens=True), HOLD),
    ("cut off, a silence inside the answer", silent(1.1, received_tokens=5), HOLD),
    ("cut off after a silence", silent(0.1, 1.1, received_tokens=5), HOLD),
    ("complete, a silence inside, no usage", silent(1.1, complete=True, received_tokens=5), HOLD),
    ("complete, a silence after it, no usage", silent(1, 9, complete=True, received_tokens=5), 100 + 2 * 5),
    # The same with a usage in the chunks: settled at it and at what may have followed, up to the hold.
    ("cut off, usage", answering(received_tokens=50, usage=Usage(40, 9)), 40 + 18),
    ("cut off, hidden tokens, usage", answering(hides_tokens=True, usage=Usage(40, 9)), 40 + 18),
    ("cut off, silence, usage", silent(9, 9, usage=Usage(40, 9)), 40 + 18),
    ("cut off, a long prompt in the usage", answering(received_tokens=50, usage=Usage(90, 100)), 290),
    ("cut off, usage above the hold", answering(received_tokens=50, usage=Usage(90, 900)), HOLD),
    (
        "cut off, text proves more than the usage",
        answering(text_bytes=2561, deltas=3, usage=Usage(40, 9)),
        40 + 2 * 21,
    ),
    (
        "ten a second for a second, then half a second and the time to notice the end, at twice the speed",
        reporting((10, 5), (11, 15), ended_at=11.5),
        40 + 2 * (15 + 30),
    ),
    (
        "too short to know the speed: a thousand a second are assumed",
        reporting((10, 5), (10.4, 9), ended_at=10.4),
        HOLD,
    ),
    ("one report only", reporting((10, 5), ended_at=10), HOLD),
    (
        "more text after the report than the speed explains",
        reporting((10, 5), (11, 5), ended_at=11.5, received_tokens=33),
        40 + 2 * (5 + 33),
    ),
    ("no speed, and nothing after the report", reporting((10, 5), (11, 5), ended_at=19), 40 + 2 * 5),
    ("tokens of earlier tries", answering(usage=Usage(40, 9), earlier_tokens=50), 40 + 18 + 100),
    # A complete answer: settled at the usage, or else at the bound.
    ("complete, usage", answering(complete=True, received_tokens=50, usage=Usage(40, 9)), 40 + 18),
    ("complete, hidden, usage", answering(complete=True, hides_tokens=True, usage=Usage(40, 9)), 40 + 18),
    ("complete, earlier tries", answering(complete=True, earlier_tokens=9, usage=Usage(40, 9)), 40 + 18),
    ("complete, the speed is of no interest", reporting((1, 5), ended_at=9, complete=True), 40 + 2 * 5),
    (
        "complete, text after the last report",
        reporting((1, 5), ended_at=9, complete=True, received_tokens=33),
        40 + 2 * 38,
    ),
    # The same with a usage that is not the last: settled at the hold where tokens may not have been sent.
    ("complete, hidden, an early usage", early(40, 9, hides_tokens=True), HOLD),
    ("complete, hidden, an early usage above the hold", early(40, 900, hides_tokens=True), 40 + 1800),
    ("complete, a silence inside, an early usage", early(40, 9, progress=Progress(1, 1, 1.1)), HOLD),
    ("complete, an early usage", early(40, 9), 40 + 18),
    # A complete answer that disproves the usage: the prompt as reported, the completion as proven.
    (
        "complete, disproved by events",
        answering(complete=True, received_tokens=80, deltas=101, usage=Usage(40, 9)),
        40 + 2 * 51,
    ),
    (
        "complete, disproved by bytes",
        answering(complete=True, received_tokens=5001, text_bytes=5001, usage=Usage(1, 1)),
        1 + 2 * 40,
    ),
    (
        "complete, disproved, proof above the hold",
        answering(complete=True, received_tokens=900, deltas=500, usage=Usage(1, 1)),
        1 + 2 * 250,
    ),
    ("complete, not disproved", answering(complete=True, deltas=18, text_bytes=1152, usage=Usage(40, 9)), 58),
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
    # An earlier request of the same call was answered: its time is billed, also if the last one is not.
    ("answered for 7 seconds, then never connected", Attempt(earlier_seconds=7.0), 70),
    (
        "answered for a fraction of a second, then an error status",
        Attempt(sent=True, refused=True, started_at=1.0, ended_at=6.0, earlier_seconds=0.25),
        3,
    ),
    ("answered for 7 seconds, then complete after 5", taking(5, complete=True, earlier_seconds=7.0), 120),
]

WITH_A_CACHE: list[Row] = [
    ("complete, part cached", answering(complete=True, usage=Usage(80, 9, 40)), 40 + 10 + 18),
    ("complete, all cached", answering(complete=True, usage=Usage(80, 9, 80)), 20 + 18),
    ("complete, nothing cached", answering(complete=True, usage=Usage(80, 9)), 80 + 18),
    ("complete, no usage", answering(complete=True, received_tokens=9), 100 + 18),
    ("cut off, part cached", answering(received_tokens=9, usage=Usage(80, 9, 40)), 40 + 10 + 18),
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


def test_cached_tokens_count_only_if_the_upstream_reports_them() -> None:
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
    hides_tokens=st.booleans(),
    deltas=counts,
    text_bytes=counts,
    earlier_tokens=counts,
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
def test_an_incomplete_answer_costs_at_least_its_usage_or_its_bound(
    attempt: Attempt, pricing: CallPricing, hold: int
) -> None:
    attempt.sent, attempt.refused, attempt.complete = True, False, False

    cost = settlement_nanousd(attempt, pricing, hold)

    assert cost is not None
    reported = pricing.reported_nanousd(attempt)
    least = pricing.bound_nanousd(attempt) if reported is None else reported
    assert cost >= min(hold, least) if attempt.answering else cost == hold
    if reported is None and attempt.may_have_unseen_tokens:
        assert cost == hold
