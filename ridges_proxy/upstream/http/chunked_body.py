"""Decoding of chunked bodies (RFC 9112, 7.1). One read returns the data of all chunks that have arrived.

http.client returns one chunk per read, and upstreams send each event in a separate chunk.
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
"""Limit of a chunk's header line or of a trailer, as in http.client."""

MAX_TRAILERS = 100
"""Limit as in http.client."""

_CHUNK_HEADER = re.compile(rb"\r?\n([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
"""The end of the previous chunk and the header line of the next one; extensions are ignored."""

_PARTIAL_HEADER = re.compile(rb"\r?(?:\n(?:[0-9A-Fa-f]{1,15}[ \t]*(?:;[^\n]*)?\r?)?)?")


class ChunkedBody(BufferedIOBase):
    """A file with the decoded data of a chunked file. Closing it closes the chunked file.

    Reading raises IncompleteRead where the body is cut or a chunk is invalid, after all data before that
    point has been read.
    """

    def __init__(self, file: BufferedReader[Any]) -> None:
        self._file = file
        self._undecoded = b"\r\n"  # the first header line is matched like the others, which follow a chunk
        self._chunk_remaining_bytes = 0
        self._trailers_remaining = MAX_TRAILERS
        self._decoded = b""
        self._in_trailers = False
        self._ended = False
        self._broken = False

    @property
    def at_end(self) -> bool:
        """Whether all data has been read and the end of the body has been received."""
        return self._ended and not self._decoded

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return the data that has arrived, up to `size` bytes. Wait only if there is none."""
        while not self._decoded and not self._ended:
            received = b"" if self._broken else self._file.read1(READ_BYTES)
            if not received:
                raise IncompleteRead(b"")
            self._decoded = b"".join(self._decode(self._undecoded + received))
        max_bytes = len(self._decoded) if size is None or size < 0 else size
        read, self._decoded = self._decoded[:max_bytes], self._decoded[max_bytes:]
        return read

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, or all data until the end."""
        remaining = float("inf") if size is None or size < 0 else size
        pieces = []
        while remaining and (piece := self.read1(None if size is None or size < 0 else int(remaining))):
            pieces.append(piece)
            remaining -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the chunked file as well."""
        self._file.close()
        super().close()

    def _decode(self, data: bytes) -> list[bytes]:
        """Return the data of the chunks; keep an incomplete header line for the next call."""
        pieces = [data[: self._chunk_remaining_bytes]]
        at = self._chunk_remaining_bytes  # where the next header line starts, if it has arrived
        while not self._in_trailers and (header := _CHUNK_HEADER.match(data, at)):
            start = header.end()
            at = start + int(header[1], 16)
            pieces.append(data[start:at])
            self._in_trailers = at == start
        self._chunk_remaining_bytes = max(0, at - len(data))
        rest = self._skip_trailers(data[at:]) if self._in_trailers else data[at:]
        is_valid = self._in_trailers or _PARTIAL_HEADER.fullmatch(rest)
        self._broken = self._trailers_remaining < 0 or len(rest) > MAX_LINE_BYTES or not is_valid
        self._undecoded = rest
        return pieces

    def _skip_trailers(self, data: bytes) -> bytes:
        """Skip the trailers, up to the empty line that ends the body."""
        while b"\n" in data and not self._ended and self._trailers_remaining >= 0:
            line, _, data = data.partition(b"\n")
            self._ended = line in {b"", b"\r"}
            self._trailers_remaining -= not self._ended
        return data
