"""A stream on its way through: one greenlet reads the upstream, another writes to the client.

Two, so that what ends the call early (its deadline, the client, the process) is raised where the upstream
is waited for, and never in the middle of a write; and so that silence can be told from the wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from ridges_proxy.errors import ClientStalledError, InterruptedCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Put = Callable[[bytes], None]

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of event streams passes over."""

MAX_WAITING_BYTES = 1 << 20
"""Read and not yet written. The upstream never waits for the client: what it went on to generate, unseen,
would be billed and not be booked. A client so far behind has lost its answer."""


def relayed(read: Callable[[Put], None], heartbeat_seconds: float) -> Generator[bytes]:
    """Run `read` beside us, and yield what it puts as soon as it does; raise what it raises.

    What is put in one go comes in one piece. After so many seconds of silence comes a heartbeat. When the
    iterator is closed, `read` is ended before this returns.
    """
    channel = _Channel()
    reader = gevent.spawn(channel.run, read)
    try:
        yield from channel.pieces(heartbeat_seconds)
    finally:
        reader.kill()


class _Channel:
    """For one greenlet that puts and one that takes."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._arrived = Event()
        self._waiting_bytes = 0
        self._over = False
        self._failure: Exception | None = InterruptedCallError()
        """Until the reader has come to its end: one that was killed has not."""

    def run(self, read: Callable[[Put], None]) -> None:
        try:
            read(self._put)
            self._failure = None
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._failure = error
        finally:
            self._over = True
            self._arrived.set()

    def _put(self, event: bytes) -> None:
        if not self._events:
            self._arrived.set()  # once for all that comes before the taker's turn
        self._events.append(event)
        self._waiting_bytes += len(event)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise ClientStalledError

    def pieces(self, heartbeat_seconds: float) -> Iterator[bytes]:
        while not (self._over and not self._events):
            if not self._arrived.wait(heartbeat_seconds):
                yield HEARTBEAT
                continue
            self._arrived.clear()
            events, self._events, self._waiting_bytes = self._events, [], 0
            if events:
                yield b"".join(events)
        if self._failure is not None:
            raise self._failure
