"""How many calls may be in flight, and how a call in flight is cut short from outside.

A call ends early for three reasons: its deadline, its client hanging up, and the process shutting
down. All three raise an exception inside the waiting call, and only while it waits for the upstream:
what comes before and after (reserving, settling) is never interrupted, so every hold resolves.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent import get_hub, getcurrent

from ridges_proxy.errors import (
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    OverloadedError,
    RunClosedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from greenlet import greenlet


END_SECONDS = 1.0
"""How long calls that were cut short may take to settle and to say so, and again once they are hung up on."""

END_POLL_SECONDS = 0.01


class Client(Protocol):
    """Whoever waits for the answer."""

    def watch(self, interrupt: Callable[[Exception], None]) -> AbstractContextManager[None]:
        """While the context is open, call `interrupt(ClientGoneError())` when the client has hung up."""
        ...

    def hang_up(self) -> None:
        """Close the connection, whoever writes to it right now."""
        ...


class InFlightCall:
    """One admitted call. Its wait for the upstream can be interrupted; nothing else of it can."""

    def __init__(self) -> None:
        self._waiting: greenlet | None = None
        self._client: Client | None = None
        self._interruption: Exception | None = None

    @contextmanager
    def waiting(self, deadline_seconds: float, client: Client) -> Iterator[None]:
        """Wait for the upstream inside: until the deadline, and while the client is there."""
        if self._interruption:
            raise self._interruption
        self._client = client
        timer = gevent.Timeout.start_new(deadline_seconds, DeadlineExceededError())
        self._waiting = getcurrent()
        try:
            with client.watch(self.interrupt):
                yield
        finally:
            self._waiting = None
            timer.close()

    def interrupt(self, error: Exception) -> None:
        """Raise the error inside the wait. Before the wait, it never begins; after it, nothing happens."""
        if self._interruption is None:
            self._interruption = error
            # From the hub, so that the look at `_waiting` and the raising are one step.
            get_hub().loop.run_callback(self._throw, error)

    def hang_up(self) -> None:
        """End what an interruption cannot reach: a write that the client does not take."""
        if self._client is not None:
            self._client.hang_up()

    def _throw(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.dead:
            self._waiting.throw(error)


class Admission:
    """Counts the calls in flight of one process; refuses at once, never queues."""

    def __init__(self, most_calls: int) -> None:
        self._most_calls = most_calls
        self._flights: set[InFlightCall] = set()
        self._by_run: dict[str, set[InFlightCall]] = {}
        self._draining = False

    def check(self) -> None:
        """Raise DrainingError or OverloadedError, as `enter` would."""
        if self._draining:
            raise DrainingError
        if len(self._flights) >= self._most_calls:
            raise OverloadedError

    @contextmanager
    def enter(self, run_id: str) -> Iterator[InFlightCall]:
        """Admit one call for as long as the context is open. Raises DrainingError or OverloadedError."""
        self.check()
        flight = InFlightCall()
        of_run = self._by_run.setdefault(run_id, set())
        self._flights.add(flight)
        of_run.add(flight)
        try:
            yield flight
        finally:
            self._flights.remove(flight)
            of_run.remove(flight)
            if not of_run:
                del self._by_run[run_id]

    @property
    def in_flight(self) -> int:
        """Calls admitted and not yet ended."""
        return len(self._flights)

    @property
    def draining(self) -> bool:
        """Whether new calls are refused because the process is shutting down."""
        return self._draining

    def drain(self) -> None:
        """Take no new calls, from now on."""
        self._draining = True

    def cut_all(self) -> None:
        """End every wait of a call in flight with DrainedError."""
        _cut(self._flights, DrainedError)

    def end_all(self) -> None:
        """Cut all, and return when they have ended; within 2 END_SECONDS in any case."""
        self.cut_all()
        _await_end(self._flights)

    def end_run(self, run_id: str) -> None:
        """Cut the run's calls in flight with RunClosedError, and return as `end_all` does."""
        flights = self._by_run.get(run_id, set())
        _cut(flights, RunClosedError)
        _await_end(flights)


def _cut(flights: set[InFlightCall], kind: type[Exception]) -> None:
    for flight in list(flights):
        flight.interrupt(kind())


def _await_end(flights: set[InFlightCall]) -> None:
    """Wait until all have left the set, as they do when they end; hang up on those who write to no reader."""
    if not _emptied(flights):
        for flight in list(flights):
            flight.hang_up()
        _emptied(flights)


def _emptied(flights: set[InFlightCall]) -> bool:
    end = time.monotonic() + END_SECONDS
    while flights and time.monotonic() < end:
        gevent.sleep(END_POLL_SECONDS)
    return not flights
