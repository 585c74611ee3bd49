"""Limits on connections that wait for their client: a maximum number, a time limit, and a maximum of bytes.

A waiting connection uses one of the worker's connections, and memory. Without a limit, a few thousand clients
that send nothing, or an incomplete request, would block all other clients until they time out, and their
incomplete bodies would fill the memory. Above the maximum the oldest wait ends: a normal client sends its
request at once, so its wait is not the oldest.

Behind a reverse proxy that buffers requests, such as nginx with `deploy/nginx.conf`, the limits of request
heads and bodies are not needed: incomplete heads and bodies stay in nginx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import gevent
from gevent import get_hub, getcurrent

from ridges_proxy.errors import BodyTimeoutError, OverloadedError
from ridges_proxy.runtime.file_limits import MAX_LINGERING, MAX_REQUEST_HEADS, max_request_bodies

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from greenlet import greenlet

BODY_BYTES = 256 << 20
LARGEST_BODIES = 8
"""Maximum bytes of all incomplete bodies together: BODY_BYTES, or this many times MAX_BODY_BYTES if that is
more."""


def _no_error() -> None:
    return None


class ConnectionLimit:
    """A limit on waits of one kind. It keeps them in the order in which they began."""

    def __init__(
        self,
        max_waits: int,
        max_bytes: int = 0,
        timeout_error: Callable[[], Exception | None] = _no_error,
        eviction_error: Callable[[], Exception | None] = _no_error,
    ) -> None:
        """Create a limit; `max_bytes` 0 means no limit of bytes.

        `timeout_error` makes the error that a wait raises after its time, `eviction_error` the one that it
        raises if a newer wait needs its place. If they return None, the wait's `with` block ends silently.
        """
        self._max_waits = max_waits
        self._max_bytes = max_bytes
        self._timeout_error = timeout_error
        self._eviction_error = eviction_error
        self._waits: dict[LimitedWait, None] = {}
        self.held_bytes = 0

    def wait(self, seconds: float) -> LimitedWait:
        """Return a context that ends after the time, or earlier if newer waits need its place."""
        return LimitedWait(self, seconds, self._timeout_error())

    def add(self, wait: LimitedWait) -> None:
        """Count a wait that begins."""
        self._waits[wait] = None
        if len(self._waits) > self._max_waits:
            self._evict_oldest()

    def remove(self, wait: LimitedWait) -> None:
        """Stop counting a wait and its bytes."""
        self._waits.pop(wait, None)
        self.held_bytes -= wait.held_bytes
        wait.held_bytes = 0

    def add_bytes(self, wait: LimitedWait, size_bytes: int) -> None:
        """Count received bytes of a wait."""
        wait.held_bytes += size_bytes
        self.held_bytes += size_bytes
        if self.held_bytes > self._max_bytes > 0:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        while self._waits and (len(self._waits) > self._max_waits or self.held_bytes > self._max_bytes > 0):
            oldest = next(iter(self._waits))
            self.remove(oldest)
            oldest.end_now(self._eviction_error())


class LimitedWait(gevent.Timeout):
    """One wait under a ConnectionLimit, as a context manager."""

    def __init__(self, limit: ConnectionLimit, seconds: float, error: Exception | None) -> None:
        super().__init__(seconds, error or False)  # type: ignore[arg-type] # False: the block ends silently
        self.held_bytes = 0
        self._limit = limit
        self._greenlet: greenlet | None = None

    def __enter__(self) -> Self:
        self._greenlet = getcurrent()
        super().__enter__()
        self._limit.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[True] | None:
        self._greenlet = None
        self._limit.remove(self)
        return super().__exit__(kind, error, trace)

    def add_bytes(self, size_bytes: int) -> None:
        """Count received bytes."""
        self._limit.add_bytes(self, size_bytes)

    def end_now(self, error: Exception | None) -> None:
        """Raise the error in the waiting greenlet; without one, end the wait as if its time were over."""
        get_hub().loop.run_callback(self._throw, error)

    def _throw(self, error: Exception | None) -> None:
        """Raise the error, unless the wait has ended since the callback was scheduled."""
        if self._greenlet is not None:
            self._greenlet.throw(error or self.exception or self)


def request_head_limit() -> ConnectionLimit:
    """Return the limit on a worker's connections that wait for a request."""
    return ConnectionLimit(MAX_REQUEST_HEADS)


def request_body_limit(max_concurrent_calls: int, max_body_bytes: int) -> ConnectionLimit:
    """Return the limit on a worker's requests whose bodies are still being received."""
    max_bytes = max(BODY_BYTES, LARGEST_BODIES * max_body_bytes)
    return ConnectionLimit(
        max_request_bodies(max_concurrent_calls), max_bytes, BodyTimeoutError, OverloadedError
    )


def lingering_close_limit() -> ConnectionLimit:
    """Return the limit on a worker's connections whose client has its answer, but still sends a body."""
    return ConnectionLimit(MAX_LINGERING, timeout_error=BodyTimeoutError, eviction_error=BodyTimeoutError)
