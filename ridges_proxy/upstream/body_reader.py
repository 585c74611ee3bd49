"""Reading of response bodies piece by piece, with pauses so that one worker can serve many streams."""

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
MAX_RESPONSE_BYTES = 64 << 20
"""Limit of any response. A stream within `max_tokens` is smaller. A stream is not kept in memory."""

TURN_BYTES = 65_536
"""Bytes that are read before a pause.

A fast upstream never makes the reader wait. Without a pause the other calls would get no time, and the
deadline of this call could not fire.
"""

MIN_PIECE_BYTES = 1_024
"""The bytes that a smaller piece counts as, because each piece has a cost of its own."""

READS_PER_SECOND = 10_000
"""Reads of all streams together: they take a quarter of a worker's time."""

MAX_ARRIVED_BYTES = 8 << 20
"""Limit of what is read after an interruption.

Linux keeps at most 6 MiB that have arrived for a connection: the last number of net.ipv4.tcp_rmem.
"""

MAX_PAUSE_SECONDS = 0.25
"""Longest pause of a stream that is collected: its single events are not passed on."""

MAX_RELAY_PAUSE_SECONDS = 0.1
"""Longest pause of a stream that is relayed to the client."""

DRAIN_SECONDS = 0.25
"""Time to read the unused rest of a body. After it the connection is closed instead of reused."""


class ReadPacer:
    """Pauses between the reads of one stream. They grow with the number of open streams.

    A few streams are read as their events arrive. With 1,000 open streams, each is read ten times a second:
    waking up for every event would take more time than one processor has, and delay all of them. A stream
    counts as open while it is inside the context.
    """

    def __init__(self) -> None:
        self._open_streams = 0

    def __enter__(self) -> Self:
        self._open_streams += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._open_streams -= 1

    def pause_seconds(self, max_seconds: float) -> float:
        """Return the pause after a read; 0 if it would be too short to be useful."""
        seconds = self._open_streams / READS_PER_SECOND
        return min(seconds, max_seconds) if seconds > PAUSE_SECONDS else 0.0


def read_pieces(
    response: requests.Response, pacer: ReadPacer | None = None, max_pause_seconds: float = 0.0
) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises UpstreamBrokenError above MAX_RESPONSE_BYTES.

    An exception that is raised inside a pause or a wait (deadline, client gone) is passed on only after the
    data that has arrived until then, because that data is billed as well.
    """
    received_bytes = turn_bytes = 0
    while True:
        try:
            piece = response.raw.read1(READ_BYTES, decode_content=False)
        except LIBRARY_ERRORS:
            raise
        except (Exception, GreenletExit):
            yield from _arrived_pieces(response)  # they may have arrived at the same moment
            raise
        if not piece:
            return
        received_bytes += len(piece)
        if received_bytes > MAX_RESPONSE_BYTES:
            raise UpstreamBrokenError
        yield piece
        turn_bytes += max(len(piece), MIN_PIECE_BYTES)
        pause_seconds = pacer.pause_seconds(max_pause_seconds) if pacer else 0.0
        if turn_bytes >= TURN_BYTES:
            pause_seconds = max(pause_seconds, PAUSE_SECONDS)
            turn_bytes = 0
        if pause_seconds and not response.raw.closed:
            try:
                gevent.sleep(pause_seconds)
            except (Exception, GreenletExit):
                yield from _arrived_pieces(response)
                raise


def drain(response: requests.Response) -> bytes:
    """Read the rest of the body if it arrives within DRAIN_SECONDS, so that the connection can be reused."""
    if response.raw.closed:
        return b""
    with suppress(*LIBRARY_ERRORS), gevent.Timeout(DRAIN_SECONDS, False):  # type: ignore[arg-type]
        rest: bytes = response.raw.read(READ_BYTES, decode_content=False)
        return rest
    return b""


def _arrived_pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the data that can be read without waiting, at most MAX_ARRIVED_BYTES, with pauses.

    A fast upstream sends more in the meantime. Without the limit it could go on for as long as it likes.
    """
    arrived_bytes = turn_bytes = 0
    while arrived_bytes < MAX_ARRIVED_BYTES and (piece := _read_at_once(response)):
        yield piece
        arrived_bytes += max(len(piece), MIN_PIECE_BYTES)
        turn_bytes += max(len(piece), MIN_PIECE_BYTES)
        if turn_bytes >= TURN_BYTES:
            turn_bytes = 0
            gevent.sleep(PAUSE_SECONDS)


def _read_at_once(response: requests.Response) -> bytes:
    """Return one piece if it can be read without waiting; otherwise, and at the end, nothing."""
    with suppress(*LIBRARY_ERRORS), gevent.Timeout(0, False):  # type: ignore[arg-type]
        piece: bytes = response.raw.read1(READ_BYTES, decode_content=False)
        return piece
    return b""
