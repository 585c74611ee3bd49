"""Connections that wait for their client: so many and no more, and the oldest make room for new ones.

A connection takes a place among those that a worker serves, and memory, while it waits. Without a limit, a
few thousand clients that send nothing, or half of something, would keep everybody else outside until they
time out; and half a body each would fill the memory. Who means to be served sends at once, and is not the
oldest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import gevent
from gevent import get_hub, getcurrent

from ridges_proxy.errors import BodyTimeoutError, OverloadedError
from ridges_proxy.runtime.file_limits import MOST_HEADS, MOST_LINGERING, most_bodies

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from greenlet import greenlet

BODY_BYTES = 256 << 20
BODIES_OF_THE_LARGEST = 8
"""What all bodies that are on their way may hold: the one, or so many of MAX_BODY_BYTES, if that is more."""


def _nothing() -> None:
    return None


class ConnectionLimit:
    """Whoever waits for one kind of thing, in the order in which they began."""

    def __init__(
        self,
        most: int,
        most_bytes: int = 0,
        late: Callable[[], Exception | None] = _nothing,
        crowded: Callable[[], Exception | None] = _nothing,
    ) -> None:
        """`late` is raised in who waits too long, `crowded` in who makes room; None only ends the wait."""
        self._most = most
        self._most_bytes = most_bytes
        self._late = late
        self._crowded = crowded
        self._turns: dict[LimitedWait, None] = {}
        self.held_bytes = 0

    def turn(self, seconds: float) -> LimitedWait:
        """A context that ends after so many seconds, or earlier where others need its place."""
        return LimitedWait(self, seconds, self._late())

    def begin(self, turn: LimitedWait) -> None:
        """Count it in."""
        self._turns[turn] = None
        self._make_room()

    def end(self, turn: LimitedWait) -> None:
        """Count it out."""
        self._turns.pop(turn, None)
        self.held_bytes -= turn.held_bytes
        turn.held_bytes = 0

    def note_bytes(self, turn: LimitedWait, size_bytes: int) -> None:
        """Count what has come of its body."""
        turn.held_bytes += size_bytes
        self.held_bytes += size_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self._turns and (len(self._turns) > self._most or self.held_bytes > self._most_bytes > 0):
            oldest = next(iter(self._turns))
            self.end(oldest)
            oldest.expire(self._crowded())


class LimitedWait(gevent.Timeout):
    """One wait."""

    def __init__(self, waiting: ConnectionLimit, seconds: float, error: Exception | None) -> None:
        super().__init__(seconds, error or False)  # type: ignore[arg-type] # False: it ends the wait in silence
        self.held_bytes = 0
        self._waiting = waiting
        self._greenlet: greenlet | None = None

    def __enter__(self) -> Self:
        self._greenlet = getcurrent()
        super().__enter__()
        self._waiting.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[True] | None:
        self._greenlet = None
        self._waiting.end(self)
        return super().__exit__(kind, error, trace)

    def note_bytes(self, size_bytes: int) -> None:
        """Count what has come."""
        self._waiting.note_bytes(self, size_bytes)

    def expire(self, error: Exception | None) -> None:
        """End the wait now, with the error, or as if its time were over."""
        get_hub().loop.run_callback(self._throw, error)

    def _throw(self, error: Exception | None) -> None:
        if self._greenlet is not None:
            self._greenlet.throw(error or self.exception or self)


def for_heads() -> ConnectionLimit:
    """Of a worker's connections, those that wait for a request."""
    return ConnectionLimit(MOST_HEADS)


def for_bodies(max_concurrent_calls: int, max_body_bytes: int) -> ConnectionLimit:
    """Of a worker's requests, those whose bodies are on their way."""
    most_bytes = max(BODY_BYTES, BODIES_OF_THE_LARGEST * max_body_bytes)
    return ConnectionLimit(most_bodies(max_concurrent_calls), most_bytes, BodyTimeoutError, OverloadedError)


def for_lingering() -> ConnectionLimit:
    """Of a worker's connections, those whose client has its answer, and still sends what nobody reads."""
    return ConnectionLimit(MOST_LINGERING, late=BodyTimeoutError, crowded=BodyTimeoutError)
