from __future__ import annotations

import pytest

from ridges_proxy.admission import Admission
from ridges_proxy.errors import OverloadedError, RateLimitedError
from ridges_proxy.pace import WINDOW_SECONDS, Pace
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def wait_of(pace: Pace, calls_per_minute: int, run: str = "run") -> int:
    """The Retry-After of a call that is one too many."""
    with pytest.raises(RateLimitedError) as raised:
        pace.admit(run, calls_per_minute)
    assert raised.value.retry_after_seconds is not None
    return raised.value.retry_after_seconds


def test_so_many_calls_pass_and_no_more_until_the_first_is_a_minute_old(pace: Pace, clock: Clock) -> None:
    for _ in range(3):
        pace.admit("run", 3)
        clock.advance(10)
    assert wait_of(pace, 3) == 30
    clock.advance(29.75)
    assert wait_of(pace, 3) == 1
    clock.advance(0.25)
    pace.admit("run", 3)
    assert wait_of(pace, 3) == 10, "the second is as old in ten seconds"


def test_the_window_moves_so_that_no_minute_ever_has_more(pace: Pace, clock: Clock) -> None:
    admitted: list[float] = []
    for _ in range(1000):
        try:
            pace.admit("run", 5)
        except RateLimitedError:
            pass
        else:
            admitted.append(clock.now)
        clock.advance(1.25)
    assert all(
        later - earlier >= WINDOW_SECONDS for earlier, later in zip(admitted, admitted[5:], strict=False)
    )
    assert len(admitted) >= 100


def test_a_refused_call_does_not_count(pace: Pace, clock: Clock) -> None:
    pace.admit("run", 1)
    for _ in range(50):
        clock.advance(1)
        wait_of(pace, 1)
    clock.advance(10)
    pace.admit("run", 1)


def test_a_run_has_a_pace_of_its_own(pace: Pace) -> None:
    pace.admit("run", 1)
    pace.admit("RUN", 1)
    wait_of(pace, 1)


def test_a_smaller_limit_counts_the_calls_made_under_a_larger_one(pace: Pace, clock: Clock) -> None:
    for _ in range(5):
        pace.admit("run", 10)
        clock.advance(1)
    assert wait_of(pace, 2) == 58, "until only one of the last two is within the minute"


def test_a_run_that_has_not_called_for_a_minute_is_forgotten(pace: Pace, clock: Clock) -> None:
    for number in range(100):
        pace.admit(f"run-{number}", 5)
        clock.advance(1)
    pace.admit("last", 5)
    assert len(pace._calls) == 60, "those of the last minute, and this one"
    clock.advance(WINDOW_SECONDS)
    pace.admit("later", 5)
    assert list(pace._calls) == ["later"]


def test_no_more_is_kept_of_a_run_than_its_limit(pace: Pace) -> None:
    for _ in range(5):
        pace.admit("run", 5)
    for _ in range(100):
        wait_of(pace, 5)
    assert len(pace._calls["run"]) == 5


def test_a_call_that_is_refused_for_another_reason_does_not_count(pace: Pace) -> None:
    admission = Admission(most_calls=1, pace=pace)
    with admission.enter("run", 2), pytest.raises(OverloadedError), admission.enter("run", 2):
        pass
    with admission.enter("run", 2):
        pass
    with pytest.raises(RateLimitedError), admission.enter("run", 2):
        pass
    assert admission.in_flight == 0


def test_a_run_without_a_limit_is_not_counted(pace: Pace) -> None:
    admission = Admission(most_calls=9, pace=pace)
    for _ in range(100):
        with admission.enter("run"):
            pass
    assert pace._calls == {}
