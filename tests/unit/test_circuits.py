"""When a circuit opens, who is let through, and when it closes."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.calls.circuit_breaker import SILENT_SECONDS, CircuitBreakers
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

if TYPE_CHECKING:
    from collections.abc import Iterable

FAILURES = 5
OPEN_SECONDS = 10.0
MODEL = "model"

PERHAPS_THE_REQUEST = [
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


class Line:
    """Circuits under a clock, and calls through them."""

    def __init__(self, failures: int = FAILURES) -> None:
        self.clock = Clock()
        self.circuits = CircuitBreakers(failures, OPEN_SECONDS, self.clock)

    def fail(self, error: ProxyError, runs: Iterable[str], attempt: Attempt | None = None) -> None:
        for run in runs:
            with (
                pytest.raises(type(error)),
                self.circuits.guard(MODEL, run, attempt or Attempt()),
            ):
                raise error

    def succeed(self, run: str = "good", model: str = MODEL) -> None:
        with self.circuits.guard(model, run, Attempt()):
            pass

    def refusal(self, run: str = "any") -> int | None:
        """After how many seconds a refused call is to come again."""
        with pytest.raises(UpstreamDownError) as refused, self.circuits.guard(MODEL, run, Attempt()):
            raise AssertionError("it was let through")
        with pytest.raises(UpstreamDownError):
            self.circuits.check(MODEL, run)
        return refused.value.retry_after_seconds

    @property
    def is_open(self) -> bool:
        return self.circuits.down == [MODEL]

    def opened(self) -> Line:
        self.fail(UpstreamUnreachableError(), ["run"] * FAILURES)
        assert self.is_open
        return self


@pytest.fixture
def line() -> Line:
    return Line()


def test_an_upstream_that_cannot_be_reached_opens_it_whoever_calls(line: Line) -> None:
    line.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
    assert not line.is_open
    line.fail(UpstreamUnreachableError(), ["run"])
    assert line.is_open
    assert line.refusal("run") == line.refusal("other") == OPEN_SECONDS
    line.clock.advance(OPEN_SECONDS - 0.5)
    assert line.refusal() == 1


@pytest.mark.parametrize("error", PERHAPS_THE_REQUEST, ids=lambda error: type(error).__name__)
def test_what_a_request_can_bring_about_opens_it_only_over_several_runs(
    line: Line, error: UpstreamError
) -> None:
    line.fail(error, ["bad", "worse"] * 50)
    line.fail(error, ["third"] * (FAILURES - 1))
    assert not line.is_open
    line.fail(error, ["third"])
    assert line.is_open


@pytest.mark.parametrize("error", PERHAPS_THE_REQUEST, ids=lambda error: type(error).__name__)
def test_many_runs_that_fail_once_each_open_it_too(line: Line, error: UpstreamError) -> None:
    line.fail(error, map(str, range(3 * FAILURES - 1)))
    assert not line.is_open
    line.fail(error, ["last"])
    assert line.is_open


@pytest.mark.parametrize("error", NO_OUTAGE, ids=lambda error: type(error).__name__)
def test_what_no_outage_looks_like_never_opens_it(line: Line, error: ProxyError) -> None:
    line.fail(error, map(str, range(10 * FAILURES)))
    assert not line.is_open


def test_a_whole_answer_that_says_it_is_a_failure_is_no_outage(line: Line) -> None:
    line.fail(UpstreamBrokenError(), map(str, range(10 * FAILURES)), Attempt(complete=True))
    assert not line.is_open


@pytest.mark.parametrize("status", [200, 500])
def test_a_deadline_amid_an_answer_is_no_outage(line: Line, status: int) -> None:
    line.fail(DeadlineExceededError(), map(str, range(10 * FAILURES)), Attempt(upstream_status=status))
    assert not line.is_open


@pytest.mark.parametrize("others_are_answered", [True, False])
def test_many_deadlines_at_once_are_an_outage_only_if_nobody_is_answered(
    line: Line, *, others_are_answered: bool
) -> None:
    """A few runs may ask for answers that are too long: none of them says anything before it is whole."""
    line.succeed()
    with ExitStack() as calls:
        for run in ("one", "two", "three") * FAILURES:
            calls.enter_context(pytest.raises(DeadlineExceededError))
            calls.enter_context(line.circuits.guard(MODEL, run, Attempt()))
            calls.push(too_late)
        if others_are_answered:
            line.succeed()
    assert line.is_open != others_are_answered


def too_late(*_: object) -> None:
    raise DeadlineExceededError


@pytest.mark.parametrize("status", [401, 402, 404, 429, 500, 503])
def test_an_upstream_that_answers_anything_has_been_reached(line: Line, status: int) -> None:
    for _ in range(10):
        line.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
        line.fail(error_of_status(status), ["run"])
    assert not line.is_open


def test_a_success_makes_all_failures_forgotten(line: Line) -> None:
    for _ in range(10):
        line.fail(UpstreamUnreachableError(), ["run"] * (FAILURES - 1))
        line.succeed()
    assert not line.is_open


def test_after_its_time_one_call_tries_and_its_success_closes_it(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.circuits.check(MODEL, "any")
    with line.circuits.guard(MODEL, "probe", Attempt()):
        assert line.refusal() == SILENT_SECONDS, "one at a time"
    assert not line.is_open
    line.succeed()


def test_a_try_that_is_being_answered_lets_the_next_one_try(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    long = Attempt()
    with line.circuits.guard(MODEL, "long", long):
        assert line.refusal() == SILENT_SECONDS
        long.answering = True
        second = Attempt()
        with line.circuits.guard(MODEL, "second", second):
            assert line.refusal() == SILENT_SECONDS
        assert not line.is_open
    line.succeed()


def test_a_try_that_is_silent_lets_another_run_try(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    with line.circuits.guard(MODEL, "hangs", Attempt()):
        line.clock.advance(SILENT_SECONDS - 1)
        assert line.refusal("good") == 1
        line.clock.advance(1)
        assert line.refusal("hangs") == OPEN_SECONDS - SILENT_SECONDS, "it has its turn"
        line.succeed("good")
    assert not line.is_open


def test_each_try_beside_silent_ones_waits_twice_as_long(line: Line) -> None:
    """As each of them is charged, if the upstream hangs."""
    line.opened().clock.advance(OPEN_SECONDS)
    with ExitStack() as silent:
        for number, seconds in enumerate([2, 4, 8, OPEN_SECONDS, OPEN_SECONDS]):
            silent.enter_context(line.circuits.guard(MODEL, f"{number}", Attempt(sent=True)))
            assert line.refusal() == min(seconds, OPEN_SECONDS)
            line.clock.advance(min(seconds, OPEN_SECONDS))
    line.opened().clock.advance(OPEN_SECONDS)
    with line.circuits.guard(MODEL, "alone", Attempt(sent=True)):
        assert line.refusal() == SILENT_SECONDS


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (LedgerUnavailableError(), Attempt()),
        (BudgetExhaustedError(), Attempt()),
        (ClientGoneError(), Attempt()),
        (UpstreamBusyError(429), Attempt(sent=True, refused=True)),
    ],
)
def test_a_run_keeps_its_turn_if_it_kept_nobody_waiting(
    line: Line, error: ProxyError, attempt: Attempt
) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(error, ["run"], attempt)
    line.succeed("run")
    assert not line.is_open


def test_a_run_that_only_ever_leaves_does_not_keep_it_open(line: Line) -> None:
    """It asks at every moment, and leaves just before it would have to be answered."""
    line.opened().clock.advance(OPEN_SECONDS)
    for _ in range(10):
        with suppress(ClientGoneError), line.circuits.guard(MODEL, "leaves", Attempt(sent=True)):
            line.clock.advance(OPEN_SECONDS - 1)
            raise ClientGoneError
        assert line.refusal("leaves") == 1
        line.circuits.check(MODEL, "good")
        line.clock.advance(1)
    with suppress(ClientGoneError), line.circuits.guard(MODEL, "leaves", Attempt()):
        line.clock.advance(SILENT_SECONDS)
        line.succeed("good")
        raise ClientGoneError
    line.succeed("leaves")


def test_turns_that_are_over_are_not_remembered(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    for run in map(str, range(100)):
        line.fail(ClientGoneError(), [run], Attempt(sent=True))
        line.clock.advance(OPEN_SECONDS / 5)
    (circuit,) = line.circuits._by_model.values()
    assert list(circuit._next_turns) == ["95", "96", "97", "98", "99"]


def test_a_run_that_never_failed_need_not_wait_on_a_clock_that_has_just_begun() -> None:
    line = Line()
    line.clock.now = 0.0
    line.opened().clock.advance(OPEN_SECONDS)
    line.succeed()


def test_a_try_that_does_not_reach_it_opens_it_anew(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(UpstreamUnreachableError(), ["probe"])
    assert line.refusal() == OPEN_SECONDS


def test_one_runs_failed_tries_do_not_keep_it_open(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(UpstreamFailedError(500), ["bad"])
    assert line.refusal("bad") == OPEN_SECONDS, "its turn is over"
    line.succeed("good")
    assert not line.is_open


def test_the_only_run_may_try_again_after_a_while(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(UpstreamFailedError(500), ["only"])
    line.clock.advance(OPEN_SECONDS)
    line.succeed("only")
    assert not line.is_open


def test_failed_tries_of_several_runs_open_it_anew(line: Line) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(UpstreamFailedError(500), ["one", "two", "three"])
    assert line.refusal("four") == OPEN_SECONDS


@pytest.mark.parametrize("error", NO_OUTAGE, ids=lambda error: type(error).__name__)
def test_a_try_that_shows_nothing_lets_the_next_one_try(line: Line, error: ProxyError) -> None:
    line.opened().clock.advance(OPEN_SECONDS)
    line.fail(error, ["probe"])
    assert line.is_open
    line.succeed()
    assert not line.is_open


@pytest.mark.parametrize("went_well", [True, False])
def test_a_call_from_before_it_opened_says_nothing_of_the_time_since(line: Line, *, went_well: bool) -> None:
    with ExitStack() as early:
        for run in ("one", "two", "three"):
            early.enter_context(line.circuits.guard(MODEL, run, Attempt()))
        line.opened().clock.advance(OPEN_SECONDS / 2)
        if not went_well:
            with pytest.raises(UpstreamUnreachableError), early:
                raise UpstreamUnreachableError
    assert line.is_open
    assert line.refusal() == OPEN_SECONDS / 2


def test_a_circuit_that_nobody_tries_is_not_called_down_for_ever(line: Line) -> None:
    line.opened().clock.advance(3 * OPEN_SECONDS - 1)
    assert line.is_open
    line.clock.advance(1)
    assert not line.is_open
    line.fail(UpstreamUnreachableError(), ["probe"])
    assert line.is_open


def test_models_have_circuits_of_their_own(line: Line) -> None:
    line.opened().succeed(model="other")
    assert line.is_open
    line.circuits.check("other", "run")
    line.circuits.check("never called", "run")


def test_without_failures_to_count_it_never_opens() -> None:
    line = Line(failures=0)
    line.fail(UpstreamUnreachableError(), ["run"] * 100)
    assert line.circuits.down == []
