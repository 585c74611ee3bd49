from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.auth.key_throttle import (
    FREE,
    MOST_WAITING,
    MOST_WAITING_PER_ADDRESS,
    WAIT_SECONDS,
    WINDOW_SECONDS,
    BadKeys,
)
from ridges_proxy.errors import AddressLimitedError
from ridges_proxy.runtime.sliding_window import MemoryWindows
from tests.support.clock import Clock


def exhaust(keys: BadKeys, address: str) -> None:
    for _ in range(FREE):
        keys.slow_down(address)


def test_a_few_are_answered_at_once_and_each_one_after_them_waits() -> None:
    clock, waits = Clock(), list[float]()
    keys = BadKeys(MemoryWindows(clock), waits.append)
    exhaust(keys, "a")
    assert waits == []
    keys.slow_down("a")
    keys.slow_down("b")
    keys.slow_down("a")
    assert waits == [WAIT_SECONDS, WAIT_SECONDS], "another address does not"
    clock.advance(60)
    keys.slow_down("a")
    assert len(waits) == 2, "after a minute it is forgiven"


def crowd(keys: BadKeys, address: str, number: int) -> list[gevent.Greenlet[..., None]]:
    waiting = [gevent.spawn(keys.slow_down, address) for _ in range(number)]
    gevent.sleep(0)
    return waiting


def test_only_so_many_of_one_address_wait_and_the_others_are_refused() -> None:
    gate = Event()
    keys = BadKeys(sleep=lambda _: gate.wait())
    exhaust(keys, "a")
    waiting = crowd(keys, "a", MOST_WAITING_PER_ADDRESS)
    with pytest.raises(AddressLimitedError) as raised:
        keys.slow_down("a")
    assert raised.value.retry_after_seconds == WINDOW_SECONDS
    gate.set()
    gevent.joinall(waiting, raise_error=True)
    assert not keys._waiting
    keys.slow_down("a")


def test_only_so_many_of_all_addresses_wait() -> None:
    gate = Event()
    keys = BadKeys(sleep=lambda _: gate.wait())
    addresses = [str(number) for number in range(MOST_WAITING // MOST_WAITING_PER_ADDRESS)]
    waiting = []
    for address in addresses:
        exhaust(keys, address)
        waiting += crowd(keys, address, MOST_WAITING_PER_ADDRESS)
    exhaust(keys, "another")
    with pytest.raises(AddressLimitedError):
        keys.slow_down("another")
    gate.set()
    gevent.joinall(waiting, raise_error=True)
