"""Turns for long computations: one at a time in a process, in a thread of its own, fair between callers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from ridges_proxy.errors import BodyQueueError, DrainingError
from ridges_proxy.runtime.cooperative import Threads
from ridges_proxy.runtime.turn_queue import TurnQueue, Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.runtime.turn_queue import Caller

T = TypeVar("T")

WAIT_SECONDS = 30.0
"""Maximum wait for a turn. The longest step takes about a second."""

SWITCH_SECONDS = 0.0005
"""Time after which the thread lets the hub run, if the hub waits. Python's default is 5 ms, and a small call
waits for it about ten times."""

Watch = Callable[[Callable[[Exception], None]], AbstractContextManager[None]]
"""Makes a context in which its argument is called with the reason to end a wait."""


def unwatched(_: Callable[[Exception], None]) -> AbstractContextManager[None]:
    """Make the context of a wait that nothing ends."""
    return nullcontext()


class Turns:
    """Runs long steps in a thread, one at a time.

    The callers take turns: a step waits for at most one step of each other group of callers, and of each
    other run of its group, whatever their number. One thread at a time leaves the hub half of the processor.
    """

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._thread = Threads(1)
        self._busy = False
        self._queue = TurnQueue()
        self._draining = False

    def drain(self) -> None:
        """End all waits: the process is shutting down."""
        self._draining = True
        for waiter in self._queue:
            waiter.end(DrainingError())

    def do(
        self,
        caller: Caller,
        step: Callable[[], T],
        size_bytes: int = 0,
        watch: Watch = unwatched,
    ) -> T:
        """Run a step in the thread when it is the caller's turn, and return its result.

        The wait for the turn can be ended by `watch`: its error is raised.

        Raises BodyQueueError if too many bytes wait, or if the wait takes too long, and DrainingError if the
        process is shutting down.
        """
        with self._turn(Waiter(caller, size_bytes), watch), _hub_first():
            return self._thread.do(step)

    def do_anyway(self, caller: Caller, step: Callable[[], T]) -> T:
        """Run a step of which the result is paid for: in its turn, or without one after a failed wait."""
        with suppress(BodyQueueError, DrainingError):
            return self.do(caller, step)
        return self._thread.do(step)

    @contextmanager
    def _turn(self, waiter: Waiter, watch: Watch) -> Iterator[None]:
        if self._busy:
            self._wait(waiter, watch)
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    def _wait(self, waiter: Waiter, watch: Watch) -> None:
        """Wait for a turn, which stays taken in between."""
        if self._draining:
            raise DrainingError
        self._queue.add(waiter)
        try:
            with watch(waiter.end):
                waiter.woken.wait(self._wait_seconds)
        except BaseException:
            self._leave(waiter)
            raise
        if waiter.error is not None or not waiter.has_turn:
            self._leave(waiter)
            raise waiter.error or BodyQueueError

    def _leave(self, waiter: Waiter) -> None:
        """Give up the place in the queue, or the turn itself."""
        self._queue.remove(waiter)
        if waiter.has_turn:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the next."""
        waiter = self._queue.next()
        if waiter is None:
            self._busy = False
            return
        waiter.has_turn = True
        waiter.woken.set()


@contextmanager
def _hub_first() -> Iterator[None]:
    """Let the hub wait less for the thread.

    The thread gives way sooner. The garbage collector pauses: a large body has no garbage in cycles, and each
    collection scans it whole, while no other thread runs. It runs again between two steps. If it was paused
    before, it stays so.
    """
    interval_seconds, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval_seconds)
        if collects:
            gc.enable()
