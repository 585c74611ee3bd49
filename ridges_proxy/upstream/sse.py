"""An incremental reader of server-sent events: bytes in at any split, the same events out. Pure.

It follows the WHATWG event-stream format for what Chutes sends (`data` fields and comments; other
fields are skipped), with one addition: Chutes writes some failures as a bare JSON line without
`data:`, and such a line is an event of its own kind.
"""

from __future__ import annotations

from typing import NamedTuple

from ridges_proxy.errors import UpstreamBrokenError

MAX_EVENT_BYTES = 2 << 20
"""An event above this is an attack or a fault: a whole answer of 8,192 tokens is below 1 MiB. JSON may take
twenty times its bytes when it is read."""


class Event(NamedTuple):
    """The data of one event, its lines joined; `bare` if it was a JSON line outside any field."""

    data: bytes
    bare: bool = False


class EventReader:
    """Feed it what arrives; it gives the events that are whole. `close` gives what was left at the end.

    Raises UpstreamBrokenError when a line or an event grows past MAX_EVENT_BYTES.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # an unfinished line, joined once: a long one costs linear time
        self._pieces_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._first_line = True
        self._skip_newline = False  # the last bytes ended with CR: an LF that follows belongs to it

    @property
    def unread_bytes(self) -> int:
        """What has come and is no event yet."""
        return self._pieces_bytes + self._data_bytes

    def feed(self, chunk: bytes) -> list[Event]:
        """Take in bytes and return the events that they completed."""
        if self._skip_newline and chunk:
            self._skip_newline = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return []
        self._skip_newline = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # of bytes: at LF, CR and CRLF, and nowhere else
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        events: list[Event] = []
        if lines:
            lines[0] = self._whole(lines[0])
            _check_size(max(map(len, lines)))
            self._take_lines(lines, events)
        self._keep(rest)
        return events

    def close(self) -> list[Event]:
        """Return what the end of the stream completes: the format would drop it, but Chutes may mean it."""
        events: list[Event] = []
        if self._pieces:
            line = self._whole(b"")
            self._take_lines([line], events)
        self._dispatch(events)
        return events

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._pieces.append(rest)
            self._pieces_bytes += len(rest)
            _check_size(self._pieces_bytes)

    def _whole(self, end: bytes) -> bytes:
        """The line that ends so, with what came of it before."""
        if self._pieces:
            self._pieces.append(end)
            end = b"".join(self._pieces)
            self._pieces.clear()
            self._pieces_bytes = 0
        if self._first_line:
            self._first_line = False
            end = end.removeprefix(b"\xef\xbb\xbf")
        return end

    def _take_lines(self, lines: list[bytes], events: list[Event]) -> None:
        data = self._data
        for line in lines:
            if line.startswith(b"data: "):
                data.append(line[6:])
                self._data_bytes += len(line) - 5  # and the newline that joins it to the next
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
