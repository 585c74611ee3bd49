"""An incremental parser of server-sent events. Pure.

The events do not depend on how the bytes are split. The parser follows the WHATWG event-stream format for
what Chutes sends: `data` fields and comments. Other fields are skipped. One addition: Chutes sends some
errors as a bare JSON line without `data:`. Such a line becomes an event with `bare` set.
"""

from __future__ import annotations

from typing import NamedTuple

from ridges_proxy.errors import UpstreamBrokenError

MAX_EVENT_BYTES = 2 << 20
"""Limit of one event: a complete response of 8,192 tokens is smaller than 1 MiB.

Parsed JSON may take twenty times its bytes.
"""


class Event(NamedTuple):
    """The data of one event, its lines joined; `bare` if it was a JSON line outside any field."""

    data: bytes
    bare: bool = False


class EventReader:
    """Parser that takes bytes and returns the events that they complete. `close` returns the rest.

    Raises UpstreamBrokenError when a line or an event grows beyond MAX_EVENT_BYTES.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # an unfinished line; joined once, so a long line takes linear time
        self._pieces_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._first_line = True
        self._skip_newline = False  # the last bytes ended with CR: a following LF belongs to it

    @property
    def unread_bytes(self) -> int:
        """Bytes that were received and are not part of a complete event yet."""
        return self._pieces_bytes + self._data_bytes

    @property
    def is_between_events(self) -> bool:
        """Whether the next bytes begin a line and an event, which is not the first one."""
        return not (self._first_line or self._skip_newline or self._pieces or self._data)

    def feed(self, chunk: bytes) -> list[Event]:
        """Add bytes and return the events that they completed."""
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return []
        self._skip_newline = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # bytes are split at LF, CR and CRLF only
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        events: list[Event] = []
        if lines:
            lines[0] = self._complete_line(lines[0])
            _check_size(max(map(len, lines)))
            self._add_lines(lines, events)
        self._keep(rest)
        return events

    def close(self) -> list[Event]:
        """Return the events that the end of the stream completes.

        The format would drop an unfinished event, but some upstreams end their last event this way.
        """
        events: list[Event] = []
        if self._pieces:
            line = self._complete_line(b"")
            self._add_lines([line], events)
        self._dispatch(events)
        return events

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._pieces.append(rest)
            self._pieces_bytes += len(rest)
            _check_size(self._pieces_bytes)

    def _complete_line(self, end: bytes) -> bytes:
        """Return the line that ends with these bytes, with the pieces received before."""
        if self._pieces:
            self._pieces.append(end)
            end = b"".join(self._pieces)
            self._pieces.clear()
            self._pieces_bytes = 0
        if self._first_line:
            self._first_line = False
            end = end.removeprefix(b"\xef\xbb\xbf")
        return end

    def _add_lines(self, lines: list[bytes], events: list[Event]) -> None:
        data = self._data
        for line in lines:
            if line.startswith(b"data: "):
                data.append(line[6:])
                self._data_bytes += len(line) - 5  # includes the newline that joins it to the next line
            elif not line:
                self._dispatch(events)
            elif line.startswith(b"data:") or line == b"data":
                data.append(line[5:])
                self._data_bytes += len(line[5:]) + 1
            elif line.startswith(b"{"):
                events.append(Event(line, bare=True))
        _check_size(self._data_bytes - 1)

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            if self._data_bytes > MAX_EVENT_BYTES:
                _check_size(self._data_bytes - 1)
            events.append(Event(b"\n".join(self._data)))
            self._data.clear()
            self._data_bytes = 0


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_EVENT_BYTES:
        raise UpstreamBrokenError
