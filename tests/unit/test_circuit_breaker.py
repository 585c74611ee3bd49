"""When a circuit breaker opens, which calls it lets through, and when it closes."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, TypeAlias

import pytest

from ridges_proxy.calls import circuit_breaker
from ridges_proxy.calls.circuit_breaker import MAX_WAITING_RUNS, SILENT_SECONDS, CircuitBreakers
from ridges_proxy.errors import (
    AnswerTooLargeError,
    BudgetExhaustedError,
    ClientGoneError,
    DeadlineExceededError,
    DrainedError,
    LedgerUnavailableError,
    NoFilesError,
    ProxyError,
    UpstreamAuthError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamDownError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamModelError,
    UpstreamNoInstanceError,
    UpstreamOverranError,
    UpstreamQuotaError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.upstream import Attempt
from ridges_proxy.upstream.errors import error_of_status
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

FAILURES = 5
OPEN_SECONDS = 10.0
MODEL = "model"

CAUSED_BY_REQUEST_PERHAPS = [
    UpstreamTimeoutError(),
    DeadlineExceededError(),
    UpstreamBrokenError(),
    UpstreamFailedError(500),
    UpstreamNoInstanceError(503),
]
NO_OUTAGE: list[ProxyError] = [
    UpstreamAuthError(401),
    UpstreamQuotaError(402),
    UpstreamRejectedError(400),
    UpstreamModelError(404),
    UpstreamBusyError(429),
    UpstreamOverranError(),
    AnswerTooLargeError(),
    NoFilesError(),
    ClientGoneError(),
    DrainedError(),
    BudgetExhaustedError(),
    LedgerUnavailableError(),
]


class GuardedCalls:
    """Calls through the circuit breakers of a process, on a clock that the test advances."""

    def __init__(self, failures: int = FAILURES) -> None:
        self.clock = Clock()
        self.breakers = CircuitBreakers(failures, OPEN_SECONDS, self.clock)

    def fail(self, error: ProxyError, runs: Iterable[str], attempt: Attempt | None = None) -> None:
        for run in runs:
            with (
                pytest.raises(type(error)),
                self.breakers.guard(MODEL, run, attempt or Attempt()),
            ):
                raise error

    def succeed(self, run: str = "good", model: str = MODEL) -> None:
        with self.breakers.guard(model, run, Attempt()):
            pass

    def refusal(self, run: str = "any") -> int | None:
        """Assert that a call of the run is refused, and return its Retry-After in seconds."""
        with pytest.raises(UpstreamDownError) as refused, self.breakers.guard(MODEL, run, Attempt()):
            raise AssertionError("it was let through")
        with pytest.raises(UpstreamDownError):
            self.breakers.check(MODEL, run)
        return refused.value.retry_after_seconds

    @property
    def is_open(self) -> bool:
        return self.breakers.down == [MODEL]

    def open(self) -> None:
        self.fail(UpstreamUnreachableError(), ["run"] * FAILURES)
        assert self.is_open


def half_open_calls() -> GuardedCalls:
    calls = GuardedCalls()
    calls.open()
    calls.clock.advance(OPEN_SECONDS)
    return calls


@pytest.fixture
def calls() -> GuardedCalls:
    return GuardedCalls()


@pytest.fixture
def half_open() -> GuardedCalls:
    return half_open_calls()


def test_the_log_says_when_a_breaker_opens_and_when_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    """Each once, with the model: a success of a closed breaker, and failures of an open one, say nothing."""
    calls = GuardedCalls()
    with caplog.at_level(logging.INFO, circuit_breaker.logger.name):
        calls.succeed()
        calls.open()
        for _ in range(2):
            calls.clock.advance(OPEN_SECONDS)
            calls.fail(UpstreamUnreachableError(), ["run"])
        calls.clock.advance(OPEN_SECONDS)
        calls.succeed()
        calls.succeed()
    assert [(line.levelname, line.getMessage(), vars(line)["model"]) for line in caplog.records] == [
        ("ERROR", "the upstream is down: calls are refused", MODEL),
        ("INFO", "the upstream answers again", MODEL),
    ]


# --- closed


def test_an_unreachable_upstream_opens_it_from_any_run(calls: GuardedCalls) -> None:
    calls.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
    assert not calls.is_open
    calls.fail(UpstreamUnreachableError(), ["run"])
    assert calls.is_open
    assert calls.refusal("run") == calls.refusal("other") == OPEN_SECONDS
    calls.clock.advance(OPEN_SECONDS - 0.5)
    assert calls.refusal() == 1


def test_failures_that_a_request_can_cause_open_it_only_over_several_runs() -> None:
    def check(error: UpstreamError) -> None:
        calls = GuardedCalls()
        calls.fail(error, ["bad", "worse"] * 50)
        calls.fail(error, ["third"] * (FAILURES - 1))
        assert not calls.is_open
        calls.fail(error, ["third"])
        assert calls.is_open

    check_rows(CAUSED_BY_REQUEST_PERHAPS, check)


def test_many_runs_that_fail_once_each_open_it() -> None:
    def check(error: UpstreamError) -> None:
        calls = GuardedCalls()
        calls.fail(error, map(str, range(3 * FAILURES - 1)))
        assert not calls.is_open
        calls.fail(error, ["last"])
        assert calls.is_open

    check_rows(CAUSED_BY_REQUEST_PERHAPS, check)


def test_failures_that_are_no_sign_of_an_outage_never_open_it() -> None:
    Row: TypeAlias = tuple[ProxyError, Attempt | None]
    rows: list[Row] = [
        *((error, None) for error in NO_OUTAGE),
        (UpstreamBrokenError(), Attempt(complete=True)),  # the answer is complete, and says that it failed
        (DeadlineExceededError(), Attempt(upstream_status=200)),  # the deadline is in the middle of an answer
        (DeadlineExceededError(), Attempt(upstream_status=500)),
    ]

    def check(row: Row) -> None:
        error, attempt = row
        calls = GuardedCalls()
        calls.fail(error, map(str, range(10 * FAILURES)), attempt)
        assert not calls.is_open

    check_rows(rows, check)


@pytest.mark.parametrize("another_call_succeeds", [True, False])
def test_many_deadlines_at_once_open_it_only_if_no_call_succeeds(
    calls: GuardedCalls, *, another_call_succeeds: bool
) -> None:
    """A few runs may ask for answers that are too long. No part of them comes before they are complete."""
    calls.succeed()
    with ExitStack() as in_flight:
        for run in ("one", "two", "three") * FAILURES:
            in_flight.enter_context(pytest.raises(DeadlineExceededError))
            in_flight.enter_context(calls.breakers.guard(MODEL, run, Attempt()))
            in_flight.push(raise_deadline_exceeded)
        if another_call_succeeds:
            calls.succeed()
    assert calls.is_open != another_call_succeeds


def raise_deadline_exceeded(*_: object) -> None:
    raise DeadlineExceededError


def test_any_status_proves_that_the_upstream_is_reachable() -> None:
    def check(status: int) -> None:
        calls = GuardedCalls()
        for _ in range(10):
            calls.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
            calls.fail(error_of_status(status), ["run"])
        assert not calls.is_open

    check_rows([401, 402, 404, 429, 500, 503], check)


def test_a_success_resets_the_count_of_failures(calls: GuardedCalls) -> None:
    for _ in range(10):
        calls.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
        calls.succeed()
    assert not calls.is_open


# --- half-open: one probe at a time


def test_one_probe_passes_after_the_open_time_and_its_success_closes_it(half_open: GuardedCalls) -> None:
    half_open.breakers.check(MODEL, "any")
    with half_open.breakers.guard(MODEL, "probe", Attempt()):
        assert half_open.refusal() == SILENT_SECONDS, "one at a time"
    assert not half_open.is_open
    half_open.succeed()


def test_a_probe_that_is_being_answered_lets_the_next_one_through(half_open: GuardedCalls) -> None:
    long = Attempt()
    with half_open.breakers.guard(MODEL, "long", long):
        assert half_open.refusal() == SILENT_SECONDS
        long.answering = True
        with half_open.breakers.guard(MODEL, "second", Attempt()):
            assert half_open.refusal() == SILENT_SECONDS
        assert not half_open.is_open
    half_open.succeed()


def test_a_silent_probe_lets_another_run_through(half_open: GuardedCalls) -> None:
    with half_open.breakers.guard(MODEL, "hangs", Attempt()):
        half_open.clock.advance(SILENT_SECONDS - 1)
        assert half_open.refusal("good") == 1
        half_open.clock.advance(1)
        assert half_open.refusal("hangs") == OPEN_SECONDS - SILENT_SECONDS, "it is the others' turn"
        half_open.succeed("good")
    assert not half_open.is_open


def test_each_probe_beside_silent_ones_blocks_for_twice_as_long(half_open: GuardedCalls) -> None:
    """Each of them is charged, if the upstream hangs."""
    with ExitStack() as silent:
        for number, seconds in enumerate([2, 4, 8, OPEN_SECONDS, OPEN_SECONDS]):
            silent.enter_context(half_open.breakers.guard(MODEL, f"{number}", Attempt(sent=True)))
            assert half_open.refusal() == min(seconds, OPEN_SECONDS)
            half_open.clock.advance(min(seconds, OPEN_SECONDS))
    half_open.open()
    half_open.clock.advance(OPEN_SECONDS)
    with half_open.breakers.guard(MODEL, "alone", Attempt(sent=True)):
        assert half_open.refusal() == SILENT_SECONDS


def test_a_run_may_probe_again_if_its_probe_blocked_no_other_run() -> None:
    Row: TypeAlias = tuple[ProxyError, Attempt]
    rows: list[Row] = [
        (LedgerUnavailableError(), Attempt()),
        (BudgetExhaustedError(), Attempt()),
        (ClientGoneError(), Attempt()),
        (UpstreamBusyError(429), Attempt(sent=True, refused=True)),
    ]

    def check(row: Row) -> None:
        calls = half_open_calls()
        calls.fail(row[0], ["run"], row[1])
        calls.succeed("run")
        assert not calls.is_open

    check_rows(rows, check)


def test_a_run_that_always_hangs_up_does_not_keep_it_open(half_open: GuardedCalls) -> None:
    """It calls whenever it may, and hangs up just before an answer would be due."""
    for _ in range(10):
        with suppress(ClientGoneError), half_open.breakers.guard(MODEL, "leaves", Attempt(sent=True)):
            half_open.clock.advance(OPEN_SECONDS - 1)
            raise ClientGoneError
        assert half_open.refusal("leaves") == 1
        half_open.breakers.check(MODEL, "good")
        half_open.clock.advance(1)
    with suppress(ClientGoneError), half_open.breakers.guard(MODEL, "leaves", Attempt()):
        half_open.clock.advance(SILENT_SECONDS)
        half_open.succeed("good")
        raise ClientGoneError
    half_open.succeed("leaves")


def test_two_runs_that_take_turns_do_not_keep_it_open(half_open: GuardedCalls) -> None:
    for _ in range(10):
        for run in ("first", "second"):
            half_open.fail(ClientGoneError(), [run], Attempt(sent=True))
        assert half_open.refusal("first") == half_open.refusal("second") == OPEN_SECONDS
        half_open.breakers.check(MODEL, "good")
        half_open.clock.advance(OPEN_SECONDS)
    half_open.succeed("good")
    assert not half_open.is_open


def test_each_run_waits_until_it_may_probe_again_and_no_longer(half_open: GuardedCalls) -> None:
    for run in map(str, range(100)):
        half_open.clock.advance(OPEN_SECONDS / 5)
        half_open.fail(ClientGoneError(), [run], Attempt(sent=True))
    assert [half_open.refusal(f"{run}") for run in range(95, 100)] == [2, 4, 6, 8, 10]
    for run in map(str, range(95)):
        half_open.breakers.check(MODEL, run)
    (breaker,) = half_open.breakers._by_model.values()
    assert list(breaker._probe_again_at) == ["95", "96", "97", "98", "99"]


def test_the_number_of_waiting_runs_is_bounded(half_open: GuardedCalls) -> None:
    half_open.fail(ClientGoneError(), map(str, range(MAX_WAITING_RUNS + 1)), Attempt(sent=True))
    half_open.breakers.check(MODEL, "0")
    assert half_open.refusal("1") == half_open.refusal(f"{MAX_WAITING_RUNS}") == OPEN_SECONDS


def test_a_probe_that_was_not_sent_does_not_let_the_previous_run_probe_again(half_open: GuardedCalls) -> None:
    half_open.fail(ClientGoneError(), ["leaves"], Attempt(sent=True))
    half_open.fail(BudgetExhaustedError(), ["exhausted"])
    assert half_open.refusal("leaves") == OPEN_SECONDS
    half_open.succeed("exhausted")


def test_a_probe_that_was_not_sent_may_end_after_its_runs_wait_for_the_next_one(
    half_open: GuardedCalls,
) -> None:
    with suppress(BudgetExhaustedError), half_open.breakers.guard(MODEL, "slow", Attempt()):
        half_open.clock.advance(OPEN_SECONDS)
        half_open.fail(ClientGoneError(), ["other"], Attempt(sent=True))
        raise BudgetExhaustedError


def test_a_silent_probe_still_counts_after_one_that_was_not_sent(half_open: GuardedCalls) -> None:
    with half_open.breakers.guard(MODEL, "hangs", Attempt(sent=True)):
        half_open.clock.advance(SILENT_SECONDS)
        half_open.fail(BudgetExhaustedError(), ["exhausted"])
        with half_open.breakers.guard(MODEL, "next", Attempt(sent=True)):
            assert half_open.refusal() == 2 * SILENT_SECONDS


def test_a_new_run_need_not_wait_on_a_clock_that_starts_at_zero(calls: GuardedCalls) -> None:
    calls.clock.now = 0.0
    calls.open()
    calls.clock.advance(OPEN_SECONDS)
    calls.succeed()


def test_a_probe_that_cannot_reach_the_upstream_opens_it_again(half_open: GuardedCalls) -> None:
    half_open.fail(UpstreamUnreachableError(), ["probe"])
    assert half_open.refusal() == OPEN_SECONDS


def test_failed_probes_of_one_run_do_not_keep_it_open(half_open: GuardedCalls) -> None:
    half_open.fail(UpstreamFailedError(500), ["bad"])
    assert half_open.refusal("bad") == OPEN_SECONDS, "it is the others' turn"
    half_open.succeed("good")
    assert not half_open.is_open


def test_the_only_run_may_probe_again_after_the_open_time(half_open: GuardedCalls) -> None:
    half_open.fail(UpstreamFailedError(500), ["only"])
    half_open.clock.advance(OPEN_SECONDS)
    half_open.succeed("only")
    assert not half_open.is_open


def test_failed_probes_of_several_runs_open_it_again(half_open: GuardedCalls) -> None:
    half_open.fail(UpstreamFailedError(500), ["one", "two", "three"])
    assert half_open.refusal("four") == OPEN_SECONDS


def test_a_probe_that_proves_nothing_lets_the_next_one_through() -> None:
    def check(error: ProxyError) -> None:
        calls = half_open_calls()
        calls.fail(error, ["probe"])
        assert calls.is_open
        calls.succeed()
        assert not calls.is_open

    check_rows(NO_OUTAGE, check)


@pytest.mark.parametrize("early_calls_succeed", [True, False])
def test_calls_from_before_it_opened_change_nothing(
    calls: GuardedCalls, *, early_calls_succeed: bool
) -> None:
    with ExitStack() as early:
        for run in ("one", "two", "three"):
            early.enter_context(calls.breakers.guard(MODEL, run, Attempt()))
        calls.open()
        calls.clock.advance(OPEN_SECONDS / 2)
        if not early_calls_succeed:
            with pytest.raises(UpstreamUnreachableError), early:
                raise UpstreamUnreachableError
    assert calls.is_open
    assert calls.refusal() == OPEN_SECONDS / 2


def test_a_probe_from_before_it_opened_again_changes_nothing(half_open: GuardedCalls) -> None:
    with half_open.breakers.guard(MODEL, "early", Attempt(sent=True, answering=True)):
        half_open.fail(UpstreamUnreachableError(), ["late"])
    assert half_open.refusal() == OPEN_SECONDS


def test_a_breaker_without_calls_does_not_count_as_down_for_ever(half_open: GuardedCalls) -> None:
    half_open.clock.advance(2 * OPEN_SECONDS - 1)
    assert half_open.is_open
    half_open.clock.advance(1)
    assert not half_open.is_open
    half_open.fail(UpstreamUnreachableError(), ["probe"])
    assert half_open.is_open


def test_each_model_has_its_own_breaker(calls: GuardedCalls) -> None:
    calls.open()
    calls.succeed(model="other")
    assert calls.is_open
    calls.breakers.check("other", "run")
    calls.breakers.check("never called", "run")


def test_no_breaker_opens_if_no_failures_are_to_be_counted() -> None:
    calls = GuardedCalls(failures=0)
    calls.fail(UpstreamUnreachableError(), ["run"] * 100)
    assert calls.breakers.down == []
