"""Rate limits count alike wherever they are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond

from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.config.ledger_url import redis_url
from ridges_proxy.errors import AddressLimitedError, RateLimitedError, RateLimitStatus
from ridges_proxy.ledger.redis.client import RedisClient, client_of
from ridges_proxy.ledger.redis.sliding_window import RedisSlidingWindows
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.contract.stores import PATIENCE_SECONDS, for_the_session
from tests.support.clock import Clock
from tests.support.redis_kinds import redis_cluster
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

    Windows = SlidingWindows | RedisSlidingWindows


def in_redis(url: str, clock: Clock) -> RedisSlidingWindows:
    link = RedisClient(lambda: client_of(redis_url(url), PATIENCE_SECONDS), PATIENCE_SECONDS)
    link.do(lambda client: client.flushall())
    return RedisSlidingWindows(link, clock)


WINDOWS: dict[str, Callable[[Clock], Windows]] = {
    "memory": SlidingWindows,
    "redis": lambda clock: in_redis(for_the_session(RedisServer).url, clock),
    "redis_cluster": lambda clock: in_redis(for_the_session(redis_cluster)[0], clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture(params=WINDOWS)
def windows(request: pytest.FixtureRequest, clock: Clock) -> Windows:
    return WINDOWS[request.param](clock)


def of_runs(windows: Windows, calls: int) -> RateLimits:
    return RateLimits(windows, RateLimitItemPerMinute(calls), None)


def refusal(limits: RateLimits, run: str = "run", own: int | None = None) -> RateLimitStatus:
    with pytest.raises(RateLimitedError) as raised:
        limits.admit_run(run, own)
    return raised.value.standing


def test_so_many_calls_pass_and_no_more_until_the_first_is_a_minute_old(
    windows: Windows, clock: Clock
) -> None:
    limits = of_runs(windows, 3)
    for left in (2, 1, 0):
        assert limits.admit_run("run") == RateLimitStatus(3, 60, left, 60 - 10 * (2 - left))
        clock.advance(10)
    assert refusal(limits) == RateLimitStatus(3, 60, 0, 30)
    clock.advance(29.75)
    assert refusal(limits).reset_seconds == 1
    clock.advance(0.5)
    assert limits.admit_run("run") == RateLimitStatus(3, 60, 0, 10)
    assert refusal(limits).reset_seconds == 10, "the second is as old in ten seconds"


def test_the_window_moves_so_that_no_minute_ever_has_more(windows: Windows, clock: Clock) -> None:
    limits = of_runs(windows, 5)
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
    limits = of_runs(windows, 1)
    limits.admit_run("run")
    for _ in range(50):
        clock.advance(1)
        refusal(limits)
    clock.advance(10.25)
    limits.admit_run("run")


@pytest.mark.parametrize("other", ["RUN", "run/", "a/run", "run\n", "{run}", "лун", "r" * 256])
def test_a_run_has_a_limit_of_its_own(windows: Windows, other: str) -> None:
    limits = of_runs(windows, 1)
    limits.admit_run("run")
    limits.admit_run(other)
    refusal(limits)
    refusal(limits, other)


def test_the_tokens_limit_holds_beside_the_settings(windows: Windows) -> None:
    limits = of_runs(windows, 5)
    assert limits.admit_run("run", 2) == RateLimitStatus(2, 60, 1, 60)
    limits.admit_run("run", 2)
    assert refusal(limits, own=2).limit == 2
    for _ in range(3):
        limits.admit_run("run", 100)
    assert refusal(limits, own=100).limit == 5
    unlimited = RateLimits(windows, None, None)
    assert unlimited.admit_run("another") is None


def test_addresses_are_limited_apart_from_runs(windows: Windows, clock: Clock) -> None:
    limits = RateLimits(windows, RateLimitItemPerMinute(1), RateLimitItemPerSecond(2))
    limits.admit_run("10.0.0.1")
    limits.admit_address("10.0.0.1")
    limits.admit_address("10.0.0.1")
    with pytest.raises(AddressLimitedError) as raised:
        limits.admit_address("10.0.0.1")
    assert raised.value.standing == RateLimitStatus(2, 1, 0, 1)
    limits.admit_address("10.0.0.2")
    clock.advance(1.25)
    limits.admit_address("10.0.0.1")


def test_of_a_hundred_at_once_exactly_as_many_pass_as_may(windows: Windows) -> None:
    limits = of_runs(windows, 5)

    def passes(_: int) -> bool:
        try:
            limits.admit_run("run")
        except RateLimitedError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(passes, range(100))) == 5


def test_memory_forgets_a_window_that_has_passed(clock: Clock) -> None:
    windows = SlidingWindows(clock)
    limits = of_runs(windows, 5)
    for number in range(100):
        limits.admit_run(f"run-{number}")
    assert len(windows) == 100
    clock.advance(60)
    limits.admit_run("another")
    assert len(windows) == 1


def test_redis_forgets_a_window_that_has_passed(clock: Clock) -> None:
    link = RedisClient(
        lambda: client_of(redis_url(for_the_session(RedisServer).url), PATIENCE_SECONDS), PATIENCE_SECONDS
    )
    link.do(lambda client: client.flushall())
    of_runs(RedisSlidingWindows(link, clock), 5).admit_run("run")
    (key,) = link.do(lambda client: client.keys())
    assert 0 < link.do(lambda client: client.ttl(key)) <= 60
