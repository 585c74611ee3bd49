"""Waits that take too long, or are the oldest of too many, end. All other waits go on."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.errors import BodyTimeoutError, OverloadedError
from ridges_proxy.runtime.connection_limits import ConnectionLimit, request_body_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_SECONDS = 60.0


def limit_of(max_waits: int, max_bytes: int = 0) -> ConnectionLimit:
    """Return a limit with the errors of request bodies."""
    return ConnectionLimit(max_waits, max_bytes, BodyTimeoutError, OverloadedError)


class Clients:
    """Clients that wait until they are served, and the state of each."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self.limit = limit
        self.serve = Event()
        self.states: dict[str, str] = {}

    def begin(self, *names: str, sent_bytes: int = 0) -> None:
        for name in names:
            gevent.spawn(self._wait, name, sent_bytes)
            gevent.sleep(0)
        gevent.sleep(0)

    def _wait(self, name: str, sent_bytes: int) -> None:
        self.states[name] = "waits"
        try:
            with self.limit.wait(LONG_SECONDS) as wait:
                if sent_bytes:
                    wait.add_bytes(sent_bytes)
                self.serve.wait()
                self.states[name] = "served"
        except OverloadedError:
            self.states[name] = "refused"
        else:
            if self.states[name] == "waits":
                self.states[name] = "closed"


@contextmanager
def clients_of(limit: ConnectionLimit) -> Iterator[Clients]:
    """Serve the clients at the end, and check that no wait and no byte is left over."""
    clients = Clients(limit)
    yield clients
    clients.serve.set()
    gevent.sleep(0)
    assert "waits" not in clients.states.values()
    assert (limit.held_bytes, limit.wait(1.0).pending) == (0, False)


def test_the_oldest_wait_ends_for_a_new_one_and_the_others_are_served() -> None:
    with clients_of(ConnectionLimit(max_waits=3)) as clients:
        clients.begin("a", "b", "c")
        assert set(clients.states.values()) == {"waits"}
        clients.begin("d")
        assert clients.states == {"a": "closed", "b": "waits", "c": "waits", "d": "waits"}
    assert clients.states == {"a": "closed", "b": "served", "c": "served", "d": "served"}


def test_an_evicted_wait_raises_the_eviction_error() -> None:
    with clients_of(limit_of(1)) as clients:
        clients.begin("a", "b")
        assert clients.states == {"a": "refused", "b": "waits"}


def test_each_wait_has_its_own_error_object() -> None:
    limit = limit_of(1)
    assert limit.wait(1.0).exception is not limit.wait(1.0).exception


def test_the_oldest_waits_end_above_the_maximum_of_bytes() -> None:
    with clients_of(limit_of(9, max_bytes=100)) as clients:
        clients.begin("a", "b", sent_bytes=50)
        assert set(clients.states.values()) == {"waits"}
        clients.begin("c", sent_bytes=1)
        assert clients.states == {"a": "refused", "b": "waits", "c": "waits"}
        clients.begin("d", sent_bytes=90)
        assert clients.states == {"a": "refused", "b": "refused", "c": "waits", "d": "waits"}


def test_a_finished_wait_takes_no_place_and_no_bytes() -> None:
    limit = limit_of(1, max_bytes=10)
    for _ in range(5):
        with limit.wait(LONG_SECONDS) as wait:
            wait.add_bytes(10)
    assert limit.held_bytes == 0


def test_a_wait_ends_after_its_time() -> None:
    with pytest.raises(BodyTimeoutError), limit_of(9).wait(0.001):
        gevent.sleep(LONG_SECONDS)
    with ConnectionLimit(max_waits=9).wait(0.001):
        gevent.sleep(LONG_SECONDS)
        raise AssertionError("the wait did not end")


def test_the_body_limit_admits_all_concurrent_calls_and_eight_of_the_largest_bodies() -> None:
    bodies = request_body_limit(max_concurrent_calls=700, max_body_bytes=1 << 30)
    with ExitStack() as stack:
        waits = [stack.enter_context(bodies.wait(LONG_SECONDS)) for _ in range(700)]
        for wait in waits[:8]:
            wait.add_bytes(1 << 30)
        assert bodies.held_bytes == 8 << 30


def test_an_evicted_wait_that_has_ended_in_the_meantime_raises_nothing() -> None:
    limit = limit_of(1)
    with limit.wait(LONG_SECONDS), limit.wait(LONG_SECONDS):
        pass  # the first wait is evicted, and ends before the hub can raise the error in it
    gevent.sleep(0)
