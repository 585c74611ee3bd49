"""Reading of the pieces of a stream, event by event where their shape is not known yet. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.chunk_shape import EVENT_END
from ridges_proxy.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ridges_proxy.upstream.attempt import Attempt
    from ridges_proxy.upstream.sse import Event
    from ridges_proxy.upstream.stream_reader import StreamReader

SINGLE_EVENTS = 8
"""Events at the start of a stream that are read one by one, until one of them shows the shape of the others.

The first one usually has a role and no text.
"""


def read_events(pieces: Iterable[bytes], reader: StreamReader, attempt: Attempt) -> None:
    """Give the events in these pieces to the reader until it is done. Raises what the reader raises.

    Whatever ends the reading, all that was received is counted.
    """
    reading = _Reading(reader, attempt)
    try:
        for piece in pieces:
            attempt.record_piece()
            deltas = attempt.deltas
            reading.add(piece)
            if attempt.deltas != deltas:
                attempt.progress.record_text()
            if reader.done:
                return
        reading.end()
    finally:
        reading.count_rest()


class _Reading:
    def __init__(self, reader: StreamReader, attempt: Attempt) -> None:
        self._reader = reader
        self._attempt = attempt
        self._parser = EventReader()
        self._events: list[Event] = []
        self._piece = b""
        self._position = 0
        """Where the data begins that the parser has not got yet."""
        self._single_events = SINGLE_EVENTS

    def add(self, piece: bytes) -> None:
        """Read the events that a piece completes, until the reader is done."""
        reader, self._piece, self._position = self._reader, piece, 0
        while self._position < len(piece) and not reader.done:
            if self._parser.is_between_events:
                self._add_alike()
            self._parse(self._next_end())
            self._add_events()

    def end(self) -> None:
        """Read the events that the end of the stream completes."""
        self._events.extend(self._parser.close())
        self._add_events()

    def count_rest(self) -> None:
        """Count what was received and not read."""
        with suppress(UpstreamBrokenError):  # an event that is too large counts by its bytes
            self._parse(len(self._piece))
        self._reader.count_unread(self._events, self._parser.unread_bytes)

    def _add_alike(self) -> None:
        """Read the events that need not be parsed. They are counted once, also if the reader then raises."""
        start = self._position
        events = self._reader.count_alike(self._piece, start)
        if events is not None:
            self._position = events.end
            self._reader.use_alike(events, self._piece[start : events.end])

    def _next_end(self) -> int:
        """Return the end of the data to parse.

        The end of one event, if it has begun before this piece, or may show the shape of those behind it.
        """
        is_single = not self._parser.is_between_events
        if not is_single and self._single_events and not self._reader.knows_shape:
            self._single_events -= 1
            is_single = True
        event_end = self._piece.find(EVENT_END, self._position) if is_single else -1
        return len(self._piece) if event_end < 0 else event_end + len(EVENT_END)

    def _parse(self, end: int) -> None:
        data, self._position = self._piece[self._position : end], end
        self._events.extend(self._parser.feed(data))

    def _add_events(self) -> None:
        if self._events:
            self._attempt.record_first_event()
        read = 0
        try:
            for event in self._events:
                if self._reader.done:
                    break
                read += 1
                self._reader.add(event)
        finally:
            del self._events[:read]
