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
from ridges_proxy.errors import AddressLimitedError
from ridges_proxy.runtime.sliding_window import SlidingWindows
from tests.support.clock import Clock


def exhaust(keys: KeyThrottle, address: str) -> None:
    for _ in range(FREE_ATTEMPTS):
        keys.delay(address)


def test_a_few_are_answered_at_once_and_each_one_after_them_waits() -> None:
    clock, waits = Clock(), list[float]()
    keys = KeyThrottle(SlidingWindows(clock), waits.append)
    exhaust(keys, "a")
    assert waits == []
    keys.delay("a")
    keys.delay("b")
    keys.delay("a")
    assert waits == [WAIT_SECONDS, WAIT_SECONDS], "another address does not"
    clock.advance(60)
    keys.delay("a")
    assert len(waits) == 2, "after a minute it is forgiven"


def crowd(keys: KeyThrottle, address: str, number: int) -> list[gevent.Greenlet[..., None]]:
    waiting = [gevent.spawn(keys.delay, address) for _ in range(number)]
    gevent.sleep(0)
    return waiting


def test_only_so_many_of_one_address_wait_and_the_others_are_refused() -> None:
    gate = Event()
    keys = KeyThrottle(sleep=lambda _: gate.wait())
    exhaust(keys, "a")
    waiting = crowd(keys, "a", MAX_WAITING_PER_ADDRESS)
    with pytest.raises(AddressLimitedError) as raised:
        keys.delay("a")
    assert raised.value.retry_after_seconds == WINDOW_SECONDS
    gate.set()
    gevent.joinall(waiting, raise_error=True)
    assert not keys._waiting
    keys.delay("a")


def test_only_so_many_of_all_addresses_wait() -> None:
    gate = Event()
    keys = KeyThrottle(sleep=lambda _: gate.wait())
    addresses = [str(number) for number in range(MAX_WAITING // MAX_WAITING_PER_ADDRESS)]
    waiting = []
    for address in addresses:
        exhaust(keys, address)
        waiting += crowd(keys, address, MAX_WAITING_PER_ADDRESS)
    exhaust(keys, "another")
    with pytest.raises(AddressLimitedError):
        keys.delay("another")
    gate.set()
    gevent.joinall(waiting, raise_error=True)
