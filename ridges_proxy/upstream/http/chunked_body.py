"""A chunked body (RFC 9112, 7.1) as a file without chunks: one read takes all of them that have come.

http.client gives one chunk a read, and upstreams put each event into a chunk of its own.
"""

from __future__ import annotations

import re
from http.client import IncompleteRead
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from io import BufferedReader

READ_BYTES = 65_536
MAX_LINE_BYTES = 65_536
"""Of a chunk's head or a trailer, as in http.client."""

MAX_TRAILERS = 100
"""As in http.client."""

_HEAD = re.compile(rb"\r?\n([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
"""The end of the chunk before, and the size of the next; extensions mean nothing to us."""

_PART_OF_HEAD = re.compile(rb"\r?(?:\n(?:[0-9A-Fa-f]{1,15}[ \t]*(?:;[^\n]*)?\r?)?)?")


class Dechunked(BufferedIOBase):
    """What the chunks of a file hold. Closed, it closes the file.

    Reading raises IncompleteRead where the body breaks off, and for what is no chunk, once all before it has
    been read.
    """

    def __init__(self, file: BufferedReader[Any]) -> None:
        self._file = file
        self._undecoded = b"\r\n"  # no chunk was before the first, but each head is read alike
        self._chunk_left_bytes = 0
        self._trailers_left = MAX_TRAILERS
        self._decoded = b""
        self._in_trailers = False
        self._over = False
        self._broken = False

    @property
    def at_end(self) -> bool:
        """Whether the last byte has been read, and is known to be the last."""
        return self._over and not self._decoded

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return what has come, up to so many bytes; wait only if nothing has."""
        while not self._decoded and not self._over:
            received = b"" if self._broken else self._file.read1(READ_BYTES)
            if not received:
                raise IncompleteRead(b"")
            self._decoded = b"".join(self._decode(self._undecoded + received))
        most = len(self._decoded) if size is None or size < 0 else size
        read, self._decoded = self._decoded[:most], self._decoded[most:]
        return read

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, or all that is to come."""
        left = float("inf") if size is None or size < 0 else size
        pieces = []
        while left and (piece := self.read1(None if size is None or size < 0 else int(left))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file, too."""
        self._file.close()
        super().close()

    def _decode(self, data: bytes) -> list[bytes]:
        """What the chunks in the data hold; what is no whole head yet is kept."""
        pieces = [data[: self._chunk_left_bytes]]
        at = self._chunk_left_bytes  # where the next head begins, if it has come
        while not self._in_trailers and (head := _HEAD.match(data, at)):
            start = head.end()
            at = start + int(head[1], 16)
            pieces.append(data[start:at])
            self._in_trailers = at == start
        self._chunk_left_bytes = max(0, at - len(data))
        rest = self._after_trailers(data[at:]) if self._in_trailers else data[at:]
        is_part = self._in_trailers or _PART_OF_HEAD.fullmatch(rest)
        self._broken = self._trailers_left < 0 or len(rest) > MAX_LINE_BYTES or not is_part
        self._undecoded = rest
        return pieces

    def _after_trailers(self, data: bytes) -> bytes:
        """Pass over the trailers, up to the empty line that ends the body."""
        while b"\n" in data and not self._over and self._trailers_left >= 0:
            line, _, data = data.partition(b"\n")
            self._over = line in {b"", b"\r"}
            self._trailers_left -= not self._over
        return data
