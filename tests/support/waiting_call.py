"""A call that waits for the upstream in a separate greenlet, and its client."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from ridges_proxy.errors import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.calls.in_flight import InFlightCall

LONG_SECONDS = 60.0
SHORT_SECONDS = 0.01
PATIENCE_SECONDS = 5.0


class FakeClient:
    """Counts how often it is watched, and records whether its connection was closed."""

    def __init__(self, *, has_hung_up: bool = False, cannot_be_watched: bool = False) -> None:
        self.opened = 0
        self.closed = 0
        self.hung_up = False
        self._has_hung_up = has_hung_up
        self._cannot_be_watched = cannot_be_watched

    @contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:
        if self._cannot_be_watched:
            raise ZeroDivisionError
        self.opened += 1
        if self._has_hung_up:
            interrupt(ClientGoneError())
        try:
            yield
        finally:
            self.closed += 1

    def hang_up(self) -> None:
        self.hung_up = True


class WaitingCall:
    """A greenlet that waits for the upstream, and then for a settlement without interruption."""

    def __init__(self, in_flight: InFlightCall, seconds: float = LONG_SECONDS) -> None:
        self.client = FakeClient()
        self.answer = Event()
        self.settled = Event()
        self.waits = Event()
        self.settles = Event()
        self.interruption: BaseException | None = None
        self._greenlet = gevent.spawn(self._run, in_flight, seconds)
        assert self.waits.wait(PATIENCE_SECONDS)

    def _run(self, in_flight: InFlightCall, seconds: float) -> None:
        try:
            with in_flight.waiting(seconds, self.client):
                self.waits.set()
                self.answer.wait()
        except Exception as error:  # noqa: BLE001 - the tests check it
            self.interruption = error
        self.settles.set()
        self.settled.wait()

    def end(self) -> BaseException | None:
        """Settle. Return the error that interrupted the wait for the upstream."""
        assert self.settles.wait(PATIENCE_SECONDS)
        run_scheduled()
        self.settled.set()
        self._greenlet.join(PATIENCE_SECONDS)
        assert self._greenlet.successful(), "settling was interrupted"
        assert self.client.opened == self.client.closed == 1
        return self.interruption


def run_scheduled() -> None:
    """Let the hub run all scheduled greenlets."""
    for _ in range(3):
        gevent.sleep(0)
