"""Turns for long computations: one at a time in a process, in a thread of its own, fair between callers."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gevent.event import Event

from ridges_proxy.errors import BodyQueueError, DrainingError
from ridges_proxy.runtime.cooperative import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

WAIT_SECONDS = 30.0
"""Maximum wait for a turn. The longest step takes about a second."""

SWITCH_SECONDS = 0.0005
"""Time after which the thread lets the hub run, if the hub waits. Python's default is 5 ms, and a small call
waits for it about ten times."""

WAITING_BYTES_PER_KEY = 64 << 20
WAITING_BYTES = 256 << 20
"""Maximum bytes of the bodies that wait for a turn: of one key, and of all keys together."""


@dataclass(eq=False, slots=True)
class _Waiter:
    size_bytes: int
    woken: Event = field(default_factory=Event)
    has_turn: bool = False


class Turns:
    """Runs long steps in a thread, one at a time. A key names the run or the address that a step is for.

    The keys take turns: a step waits for at most one step of each other key, whatever their number. One
    thread at a time leaves the hub half of the processor.
    """

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._thread = Threads(1)
        self._busy = False
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()  # in the order of their next turns
        self._waiting_bytes = 0
        self._draining = False

    def drain(self) -> None:
        """End all waits: the process is shutting down."""
        self._draining = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.woken.set()

    def do(self, key: str, step: Callable[[], T], size_bytes: int = 0) -> T:
        """Run a step in the thread when it is the key's turn, and return its result.

        Raises BodyQueueError if too many bytes wait, or if the wait takes too long, and DrainingError if the
        process is shutting down.
        """
        with self._turn(key, size_bytes), _hub_first():
            return self._thread.do(step)

    @contextmanager
    def _turn(self, key: str, size_bytes: int) -> Iterator[None]:
        if self._busy:
            self._wait(key, _Waiter(size_bytes))
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    def _wait(self, key: str, waiter: _Waiter) -> None:
        """Wait for a turn, which stays taken in between."""
        if self._draining:
            raise DrainingError
        waiters = self._waiting.setdefault(key, deque())
        waiting_bytes = sum(each.size_bytes for each in waiters)
        too_many = (
            waiting_bytes + waiter.size_bytes > WAITING_BYTES_PER_KEY
            or self._waiting_bytes + waiter.size_bytes > WAITING_BYTES
        )
        if too_many and waiter.size_bytes:
            if not waiters:
                del self._waiting[key]
            raise BodyQueueError
        waiters.append(waiter)
        self._waiting_bytes += waiter.size_bytes
        try:
            waiter.woken.wait(self._wait_seconds)
        except BaseException:
            self._leave(key, waiter)
            raise
        if not waiter.has_turn:
            self._leave(key, waiter)
            raise DrainingError if self._draining else BodyQueueError

    def _leave(self, key: str, waiter: _Waiter) -> None:
        """Give up the place in the queue, or the turn itself."""
        if waiter.has_turn:
            self._pass_on()
            return
        self._waiting[key].remove(waiter)
        self._waiting_bytes -= waiter.size_bytes
        if not self._waiting[key]:
            del self._waiting[key]

    def _pass_on(self) -> None:
        """Give the turn to the next key, which then is the last in the order of keys."""
        if not self._waiting:
            self._busy = False
            return
        key, waiters = self._waiting.popitem(last=False)
        waiter = waiters.popleft()
        self._waiting_bytes -= waiter.size_bytes
        if waiters:
            self._waiting[key] = waiters
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
