"""Rate limits in sliding windows, in memory and in Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.config.rate_limit import RateLimit
from ridges_proxy.errors import AddressLimitedError, RateLimitedError, RateLimitStatus
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.contract.stores import PATIENCE_SECONDS, for_the_session
from tests.support.clock import Clock
from tests.support.redis_kinds import redis_cluster
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    Windows = SlidingWindows | RedisSlidingWindows


def open_redis_windows(url: str, clock: Clock) -> RedisSlidingWindows:
    client = RedisClient(lambda: client_of(redis_url(url), PATIENCE_SECONDS), PATIENCE_SECONDS)
    client.do(lambda connection: connection.flushall())
    return RedisSlidingWindows(client, clock)


WINDOWS: dict[str, Callable[[Clock], Windows]] = {
    "memory": SlidingWindows,
    "redis": lambda clock: open_redis_windows(for_the_session(RedisServer).url, clock),
    "redis_cluster": lambda clock: open_redis_windows(for_the_session(redis_cluster)[0], clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture(params=WINDOWS)
def windows(request: pytest.FixtureRequest, clock: Clock) -> Windows:
    return WINDOWS[request.param](clock)


def limits_of_runs(windows: Windows, calls: int) -> RateLimits:
    return RateLimits(windows, RateLimit(calls, 60), None)


def refusal(limits: RateLimits, run: str = "run", own: int | None = None) -> RateLimitStatus:
    with pytest.raises(RateLimitedError) as raised:
        limits.admit_run(run, own)
    return raised.value.rate_limit_status


def test_calls_above_the_limit_are_refused_until_the_first_is_a_minute_old(
    windows: Windows, clock: Clock
) -> None:
    limits = limits_of_runs(windows, 3)
    for left in (2, 1, 0):
        assert limits.admit_run("run") == RateLimitStatus(3, 60, left, 60 - 10 * (2 - left))
        clock.advance(10)
    assert refusal(limits) == RateLimitStatus(3, 60, 0, 30)
    clock.advance(29.75)
    assert refusal(limits).reset_seconds == 1
    clock.advance(0.5)
    assert limits.admit_run("run") == RateLimitStatus(3, 60, 0, 10)
    assert refusal(limits).reset_seconds == 10, "the second call is a minute old in ten seconds"


def test_no_minute_has_more_calls_than_the_limit(windows: Windows, clock: Clock) -> None:
    limits = limits_of_runs(windows, 5)
    admitted: list[float] = []
    for _ in range(300):
        try:
            limits.admit_run("run")
        except RateLimitedError:
            pass
        else:
            admitted.append(clock.now)
        clock.advance(1.25)
    assert all(later - earlier >= 60 for earlier, later in zip(admitted, admitted[5:], strict=False))
    assert len(admitted) >= 30


def test_a_refused_call_does_not_count(windows: Windows, clock: Clock) -> None:
    limits = limits_of_runs(windows, 1)
    limits.admit_run("run")
    for _ in range(50):
        clock.advance(1)
        refusal(limits)
    clock.advance(10.25)
    limits.admit_run("run")


def test_each_run_has_a_limit_of_its_own(windows: Windows) -> None:
    limits = limits_of_runs(windows, 1)
    limits.admit_run("run")

    def check(other: str) -> None:
        limits.admit_run(other)
        refusal(limits)
        refusal(limits, other)

    check_rows(["RUN", "run/", "a/run", "run\n", "{run}", "лун", "r" * 256], check)


def test_the_lower_of_the_limits_of_token_and_settings_applies(windows: Windows) -> None:
    limits = limits_of_runs(windows, 5)
    assert limits.admit_run("run", 2) == RateLimitStatus(2, 60, 1, 60)
    limits.admit_run("run", 2)
    assert refusal(limits, own=2).limit == 2
    for _ in range(3):
        limits.admit_run("run", 100)
    assert refusal(limits, own=100).limit == 5
    unlimited = RateLimits(windows, None, None)
    assert unlimited.admit_run("another") is None


def test_a_call_counts_once_for_equal_limits_of_token_and_settings(windows: Windows) -> None:
    limits = limits_of_runs(windows, 3)
    for left in (2, 1, 0):
        assert limits.admit_run("run", 3) == RateLimitStatus(3, 60, left, 60)
    assert refusal(limits, own=3).limit == 3


def test_a_call_that_is_refused_later_is_taken_back(windows: Windows, clock: Clock) -> None:
    limits = limits_of_runs(windows, 2)
    limits.admit_run("run")
    for _ in range(5):
        clock.advance(1)
        with pytest.raises(ZeroDivisionError), limits.admitted_run("run", 3):
            raise ZeroDivisionError
    with limits.admitted_run("run"):
        pass
    assert refusal(limits) == RateLimitStatus(2, 60, 0, 55), "the first call is the oldest"
    clock.advance(55)
    assert limits.admit_run("run") == RateLimitStatus(2, 60, 0, 5)


def test_a_call_that_one_of_two_limits_refuses_counts_for_neither(windows: Windows) -> None:
    limits = limits_of_runs(windows, 1)
    limits.admit_run("run")
    for _ in range(3):
        with pytest.raises(RateLimitedError), limits.admitted_run("run", 5):
            pass
    assert RateLimits(windows, None, None).admit_run("run", 5) == RateLimitStatus(5, 60, 4, 60)


def test_addresses_have_limits_of_their_own(windows: Windows, clock: Clock) -> None:
    limits = RateLimits(windows, RateLimit(1, 60), RateLimit(2, 1))
    limits.admit_run("10.0.0.1")
    limits.admit_address("10.0.0.1")
    limits.admit_address("10.0.0.1")
    with pytest.raises(AddressLimitedError) as raised:
        limits.admit_address("10.0.0.1")
    assert raised.value.rate_limit_status == RateLimitStatus(2, 1, 0, 1)
    limits.admit_address("10.0.0.2")
    clock.advance(1.25)
    limits.admit_address("10.0.0.1")


def test_exactly_the_limit_of_a_hundred_simultaneous_calls_is_admitted(windows: Windows) -> None:
    limits = limits_of_runs(windows, 5)

    def passes(_: int) -> bool:
        try:
            limits.admit_run("run")
        except RateLimitedError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(passes, range(100))) == 5


def test_memory_removes_a_window_that_has_passed(clock: Clock) -> None:
    windows = SlidingWindows(clock)
    limits = limits_of_runs(windows, 5)
    for number in range(100):
        limits.admit_run(f"run-{number}")
    assert len(windows) == 100
    clock.advance(60)
    limits.admit_run("another")
    assert len(windows) == 1


def test_redis_removes_a_window_that_has_passed(clock: Clock) -> None:
    client = RedisClient(
        lambda: client_of(redis_url(for_the_session(RedisServer).url), PATIENCE_SECONDS), PATIENCE_SECONDS
    )
    client.do(lambda connection: connection.flushall())
    limits_of_runs(RedisSlidingWindows(client, clock), 5).admit_run("run")
    (key,) = client.do(lambda connection: connection.keys())
    assert 0 < client.do(lambda connection: connection.ttl(key)) <= 60
