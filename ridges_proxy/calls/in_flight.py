"""A call in flight, and how it is interrupted.

A call is interrupted for one of four reasons: its deadline, a client that hangs up, a closed run, and the
shutdown of the process. Each raises an exception inside the call, and only while it waits for its turn in the
queue of its run, or for the upstream. The other steps (reserve, settle) are never interrupted, so every hold
resolves.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import gevent
from gevent import get_hub, getcurrent

from ridges_proxy.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from greenlet import greenlet


END_SECONDS = 1.0
"""How long interrupted calls may take to settle and answer. They get it twice: again after `hang_up`."""

END_POLL_SECONDS = 0.01


class Client(Protocol):
    """The client that waits for the answer."""

    def watch(self, interrupt: Callable[[Exception], None]) -> AbstractContextManager[None]:
        """Call `interrupt(ClientGoneError())` if the client hangs up while the context is open."""
        ...

    def hang_up(self) -> None:
        """Close the connection, even while another greenlet writes to it."""
        ...


class InFlightCall:
    """One admitted call. Only its waits, for a hold and for the upstream, can be interrupted."""

    def __init__(self) -> None:
        self.waits_for_hold = False
        """Whether it waits for its turn to have a hold. The end of a drain ends such a wait at once."""
        self.hold_wait_seconds = 0.0
        """Time for which it waited for its hold. 0 until the wait has ended."""
        self._waiting: greenlet | None = None
        self._client: Client | None = None
        self._interruption: Exception | None = None

    @contextmanager
    def waiting(self, deadline_seconds: float | None, client: Client) -> Iterator[None]:
        """Allow interruptions inside the context: `interrupt`, the deadline, and a client that hangs up.

        None: no deadline.
        """
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
            del timer  # the traceback of its error refers to this frame

    def interrupt(self, error: Exception) -> None:
        """Raise the error inside the wait.

        Before the wait, the error is raised instead of it. After the wait, nothing happens. Only the first
        interruption of a call has an effect.
        """
        if self._interruption is None:
            self._interruption = error
            # In the hub no other greenlet can run between the check of `_waiting` and the throw.
            get_hub().loop.run_callback(self._throw, error)

    def drop_interruption(self) -> None:
        """Drop the error at the end of the call. Its traceback refers to the frames of the call.

        Otherwise they keep each other in memory, with the request's body, until the next garbage collection.
        """
        self._interruption = None

    def hang_up(self) -> None:
        """Close the client's connection. This ends a blocked write, which `interrupt` cannot do."""
        if self._client is not None:
            self._client.hang_up()

    def _throw(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.dead:
            self._waiting.throw(error)


def interrupt_calls(calls: set[InFlightCall], error_type: type[Exception]) -> None:
    """Interrupt each of the calls with an error of its own."""
    for call in list(calls):
        call.interrupt(error_type())


def await_end(calls: set[InFlightCall]) -> None:
    """Wait until the set is empty: each call leaves it at its end. Returns within 2 * END_SECONDS.

    After END_SECONDS the connections of the remaining calls are closed: their clients do not read.
    """
    if not _is_emptied(calls):
        for call in list(calls):
            call.hang_up()
        _is_emptied(calls)


def _is_emptied(calls: set[InFlightCall]) -> bool:
    """Wait until the set is empty, for at most END_SECONDS. Returns whether it is."""
    end = time.monotonic() + END_SECONDS
    while calls and time.monotonic() < end:
        gevent.sleep(END_POLL_SECONDS)
    return not calls
