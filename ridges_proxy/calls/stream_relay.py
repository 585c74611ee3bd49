"""Relay of a stream: one greenlet reads from the upstream, another writes to the client.

There are two, so that an interruption (deadline, client, shutdown) is raised in the wait for the upstream and
never in the middle of a write, and so that heartbeats can be sent while the upstream is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
from gevent import get_hub
from gevent.event import Event

from ridges_proxy.errors import ClientStalledError, InterruptedCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Put = Callable[[bytes], None]

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which readers of event streams ignore."""

MAX_WAITING_BYTES = 1 << 20
"""Bytes that were read and not yet written. The upstream never waits for the client: tokens that it generated
meanwhile would be billed without being seen. A client that falls so far behind loses its answer."""


def relayed(read: Callable[[Put], None], heartbeat_seconds: float) -> Generator[bytes]:
    """Run `read` in a greenlet, and yield the bytes that it puts. Raises the exception that it raises.

    Bytes that arrive together are yielded as one piece. After `heartbeat_seconds` of silence a heartbeat is
    yielded. Closing the iterator ends `read` before it returns.
    """
    channel = _Channel()
    reader = gevent.spawn(channel.run, read)
    try:
        yield from channel.pieces(heartbeat_seconds)
    finally:
        reader.kill()
        channel.drop_failure()


class _Channel:
    """A channel from one greenlet that puts to one that takes."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._arrived = Event()
        self._waiting_bytes = 0
        self._ended = False
        self._failure: Exception | None = InterruptedCallError()
        """The default is for a reader that was killed: it never gets to replace it."""

    def run(self, read: Callable[[Put], None]) -> None:
        try:
            read(self._put)
            self._failure = None
        except Exception as error:  # noqa: BLE001 - raised again in `pieces`
            self._failure = error
        finally:
            self._ended = True
            self._wake()

    def drop_failure(self) -> None:
        """Drop the error. Its traceback refers to frames that refer to this channel: a cycle."""
        self._failure = None

    def _wake(self) -> None:
        self._arrived.set()

    def _put(self, event: bytes) -> None:
        if not self._events:
            self._wake()  # only for the first event since the last piece
        self._events.append(event)
        self._waiting_bytes += len(event)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise ClientStalledError

    def pieces(self, heartbeat_seconds: float) -> Iterator[bytes]:
        # One timer for all waits: a timeout for each would cost more than the rest of the wait.
        silence = get_hub().loop.timer(heartbeat_seconds, repeat=heartbeat_seconds)
        try:
            while not (self._ended and not self._events):
                silence.again(self._wake)
                self._arrived.wait()
                self._arrived.clear()
                events, self._events, self._waiting_bytes = self._events, [], 0
                if events:
                    yield b"".join(events)
                elif not self._ended:
                    yield HEARTBEAT
        finally:
            silence.close()
        if self._failure is not None:
            raise self._failure
