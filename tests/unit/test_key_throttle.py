from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.auth.key_throttle import (
    FREE_ATTEMPTS,
    MAX_WAITING,
    MAX_WAITING_PER_ADDRESS,
    WAIT_SECONDS,
    WINDOW_SECONDS,
    KeyThrottle,
)
from ridges_proxy.errors import AddressLimitedError, RateLimitStatus
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.support.clock import Clock


def use_free_attempts(throttle: KeyThrottle, address: str) -> None:
    for _ in range(FREE_ATTEMPTS):
        throttle.delay(address)


def begin_waits(throttle: KeyThrottle, address: str, number: int) -> list[gevent.Greenlet[..., None]]:
    waits = [gevent.spawn(throttle.delay, address) for _ in range(number)]
    gevent.sleep(0)
    return waits


def test_the_first_invalid_keys_are_answered_at_once_and_further_ones_are_delayed() -> None:
    clock, waits = Clock(), list[float]()
    throttle = KeyThrottle(SlidingWindows(clock), waits.append)
    use_free_attempts(throttle, "a")
    assert waits == []
    throttle.delay("a")
    throttle.delay("b")
    throttle.delay("a")
    assert waits == [WAIT_SECONDS, WAIT_SECONDS], "another address is not delayed"
    clock.advance(60)
    throttle.delay("a")
    assert len(waits) == 2, "no delay after the window"


def test_above_the_maximum_of_waits_of_one_address_further_invalid_keys_are_refused() -> None:
    end_of_waits = Event()
    throttle = KeyThrottle(sleep=lambda _: end_of_waits.wait())
    use_free_attempts(throttle, "a")
    waits = begin_waits(throttle, "a", MAX_WAITING_PER_ADDRESS)
    with pytest.raises(AddressLimitedError) as raised:
        throttle.delay("a")
    status = RateLimitStatus(FREE_ATTEMPTS, WINDOW_SECONDS, 0, WINDOW_SECONDS)
    assert raised.value.rate_limit_status == status
    assert raised.value.retry_after_seconds == WINDOW_SECONDS
    end_of_waits.set()
    gevent.joinall(waits, raise_error=True)
    assert not throttle._waiting
    throttle.delay("a")


def test_a_wait_that_ends_makes_room_for_one_more() -> None:
    ends = [Event() for _ in range(MAX_WAITING_PER_ADDRESS + 1)]
    unused = iter(ends)
    throttle = KeyThrottle(sleep=lambda _: next(unused).wait())
    use_free_attempts(throttle, "a")
    waits = begin_waits(throttle, "a", MAX_WAITING_PER_ADDRESS)
    ends[0].set()
    waits[0].get()
    waits += begin_waits(throttle, "a", 1)
    with pytest.raises(AddressLimitedError):
        throttle.delay("a")
    for end in ends:
        end.set()
    gevent.joinall(waits, raise_error=True)


def test_above_the_maximum_of_waits_of_all_addresses_further_invalid_keys_are_refused() -> None:
    end_of_waits = Event()
    throttle = KeyThrottle(sleep=lambda _: end_of_waits.wait())
    addresses = [str(number) for number in range(MAX_WAITING // MAX_WAITING_PER_ADDRESS)]
    waits = []
    for address in addresses:
        use_free_attempts(throttle, address)
        waits += begin_waits(throttle, address, MAX_WAITING_PER_ADDRESS)
    use_free_attempts(throttle, "another")
    with pytest.raises(AddressLimitedError):
        throttle.delay("another")
    end_of_waits.set()
    gevent.joinall(waits, raise_error=True)
