"""How many calls may be in flight, and how a call in flight is cut short from outside.

A call ends early for three reasons: its deadline, its client hanging up, and the process shutting
down. All three raise an exception inside the waiting call, and only while it waits for the upstream:
what comes before and after (reserving, settling) is never interrupted, so every hold resolves.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent import get_hub, getcurrent

from ridges_proxy.errors import (
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    OverloadedError,
    TooManyInFlightError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from greenlet import greenlet


class Client(Protocol):
    """Whoever waits for the answer."""

    def watch(self, interrupt: Callable[[Exception], None]) -> AbstractContextManager[None]:
        """While the context is open, call `interrupt(ClientGoneError())` when the client has hung up."""
        ...


class Flight:
    """One admitted call. Its wait for the upstream can be interrupted; nothing else of it can."""

    def __init__(self) -> None:
        self._waiting: greenlet | None = None
        self._interruption: Exception | None = None

    @contextmanager
    def waiting(self, deadline_seconds: float, client: Client) -> Iterator[None]:
        """Wait for the upstream inside: until the deadline, and while the client is there."""
        if self._interruption:
            raise self._interruption
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

    def _throw(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.dead:
            self._waiting.throw(error)


class Admission:
    """Counts the calls in flight of one process; refuses at once, never queues."""

    def __init__(self, most_calls: int, most_calls_per_run: int) -> None:
        self._most_calls = most_calls
        self._most_calls_per_run = most_calls_per_run
        self._flights: set[Flight] = set()
        self._by_run: Counter[str] = Counter()
        self._draining = False

    def check(self, run_id: str) -> None:
        """Raise what `enter` would."""
        if self._draining:
            raise DrainingError
        if len(self._flights) >= self._most_calls:
            raise OverloadedError
        if self._by_run.get(run_id, 0) >= self._most_calls_per_run:
            raise TooManyInFlightError

    @contextmanager
    def enter(self, run_id: str) -> Iterator[Flight]:
        """Admit one call for as long as the context is open.

        Raises DrainingError, OverloadedError or TooManyInFlightError.
        """
        self.check(run_id)
        flight = Flight()
        self._flights.add(flight)
        self._by_run[run_id] += 1
        try:
            yield flight
        finally:
            self._flights.remove(flight)
            self._by_run[run_id] -= 1
            if not self._by_run[run_id]:
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
        for flight in list(self._flights):
            flight.interrupt(DrainedError())
