"""The body of an answer, piece by piece: one turn at a time, and not more often than it pays."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

import gevent
from gevent import GreenletExit

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.runtime.cooperative import PAUSE_SECONDS
from ridges_proxy.upstream.errors import LIBRARY_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

READ_BYTES = 65_536
MAX_ANSWER_BYTES = 64 << 20
"""More than any stream that max_tokens allows; what has been read of it does not stay."""

TURN_BYTES = 65_536
PIECE_BYTES = 1_024
"""An upstream that is faster than we are never makes us wait: after its turn a reader pauses for the other
calls, and for its own deadline. A piece counts as PIECE_BYTES at least, as it has its own cost."""

READS_PER_SECOND = 10_000
"""Of all streams together: a quarter of a worker's time."""

MOST_REST_SECONDS = 0.25
"""Of a stream that is collected: nobody waits for its single events."""

MOST_RELAY_REST_SECONDS = 0.1
"""Of one that is passed on."""

DRAIN_SECONDS = 0.25
"""How long the rest of a body that nobody needs may take before its connection is given up."""


class Pace:
    """How often streams are read: the more of them, the less often each, and the more at once.

    One of a few is read as its events come. With 1,000 of them each is read ten times a second: a wake-up for
    every event would be more than a processor can do, and so delay them all. A stream is open while its
    context is.
    """

    def __init__(self) -> None:
        self._open = 0

    def __enter__(self) -> Self:
        self._open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._open -= 1

    def rest_seconds(self, most_seconds: float) -> float:
        """How long a stream that has just been read is left alone; 0 where that is no time worth a wait."""
        seconds = self._open / READS_PER_SECOND
        return min(seconds, most_seconds) if seconds > PAUSE_SECONDS else 0.0


def pieces_of(
    response: requests.Response, pace: Pace | None = None, most_rest_seconds: float = 0.0
) -> Iterator[bytes]:
    """What the answer consists of, as it arrives.

    Whatever is raised inside a rest comes behind what has arrived meanwhile: that is billed as well.
    """
    received_bytes = turn_bytes = 0
    while piece := response.raw.read1(READ_BYTES, decode_content=False):
        received_bytes += len(piece)
        if received_bytes > MAX_ANSWER_BYTES:
            raise UpstreamBrokenError
        yield piece
        turn_bytes += max(len(piece), PIECE_BYTES)
        rest_seconds = pace.rest_seconds(most_rest_seconds) if pace else 0.0
        if turn_bytes >= TURN_BYTES:
            rest_seconds = max(rest_seconds, PAUSE_SECONDS)
            turn_bytes = 0
        if rest_seconds and not response.raw.closed:
            try:
                gevent.sleep(rest_seconds)
            except (Exception, GreenletExit):
                yield _at_hand(response)
                raise


def drain(response: requests.Response) -> bytes:
    """Read on to the end of the body, if it is near: then the connection can be used again."""
    if response.raw.closed:
        return b""
    with suppress(*LIBRARY_ERRORS), gevent.Timeout(DRAIN_SECONDS, False):  # type: ignore[arg-type]
        rest: bytes = response.raw.read(READ_BYTES, decode_content=False)
        return rest
    return b""


def _at_hand(response: requests.Response) -> bytes:
    """What can be read without a wait."""
    found = bytearray()
    with suppress(*LIBRARY_ERRORS), gevent.Timeout(0, False):  # type: ignore[arg-type]
        while len(found) < MAX_ANSWER_BYTES:
            piece = response.raw.read1(READ_BYTES, decode_content=False)
            if not piece:
                break
            found += piece
    return bytes(found)
