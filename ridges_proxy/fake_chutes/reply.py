"""HTTP/1.1 answers, and the ways in which the bytes of a stream can be framed."""

from __future__ import annotations

import zlib
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from .connection import Connection

LAST_CHUNK = b"0\r\n\r\n"
PROMISED_BYTES = 100_000_000  # the length that `wrong_length` announces for a stream
GZIP_WBITS = 31


def head(status: int, headers: dict[str, str]) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    """A complete answer with Content-Length, unless `headers` has another one."""
    return head(status, {"Content-Length": str(len(body)), **headers}) + body


def json_answer(status: int, value: object) -> bytes:
    """A complete JSON answer."""
    return whole(status, orjson.dumps(value), {"Content-Type": "application/json"})


def chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, because an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedBody:
    """One chunk for each piece, as Chutes sends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def headers(self) -> dict[str, str]:
        """Headers that announce this framing."""
        return {"Transfer-Encoding": "chunked"}

    def send(self, piece: bytes) -> None:
        """Send one piece at once."""
        self._connection.send(chunk(piece))

    def end(self, piece: bytes = b"") -> None:
        """Send the last piece, if any, and the last chunk."""
        self._connection.send(chunk(piece) + LAST_CHUNK)


class ByteByByteBody(ChunkedBody):
    """Each byte in its own chunk, with or without a pause after it."""

    def __init__(self, connection: Connection, pause_seconds: float) -> None:
        super().__init__(connection)
        self._pause_seconds = pause_seconds

    def send(self, piece: bytes) -> None:
        """Send the piece byte by byte."""
        chunks = [chunk(piece[at : at + 1]) for at in range(len(piece))]
        if not self._pause_seconds:
            self._connection.send(b"".join(chunks))
            return
        for each in chunks:
            self._connection.send(each)
            self._connection.pause(self._pause_seconds)

    def end(self, piece: bytes = b"") -> None:
        """Send the last piece byte by byte, and the last chunk."""
        self.send(piece)
        super().end()


class GzipBody(ChunkedBody):
    """Compressed, also for a client that does not accept it; each piece is flushed."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._packer = zlib.compressobj(wbits=GZIP_WBITS)

    def headers(self) -> dict[str, str]:
        """Return the headers of a compressed body."""
        return {**super().headers(), "Content-Encoding": "gzip"}

    def send(self, piece: bytes) -> None:
        """Send the piece, flushed."""
        super().send(self._packer.compress(piece) + self._packer.flush(zlib.Z_SYNC_FLUSH))

    def end(self, piece: bytes = b"") -> None:
        """Close the archive and the body."""
        super().end(self._packer.compress(piece) + self._packer.flush())


class WrongLengthBody(ChunkedBody):
    """A Content-Length that is larger than the body."""

    def headers(self) -> dict[str, str]:
        """Return the wrong length."""
        return {"Content-Length": str(PROMISED_BYTES)}

    def send(self, piece: bytes) -> None:
        """Send the piece without a chunk."""
        self._connection.send(piece)

    def end(self, piece: bytes = b"") -> None:
        """Close before the announced end."""
        self.send(piece)
        self._connection.hang_up()


def framing(connection: Connection, fault: str | None, pause_seconds: float) -> ChunkedBody:
    """Choose the framing of a stream."""
    match fault:
        case "split":
            return ByteByByteBody(connection, 0)
        case "trickle":
            return ByteByByteBody(connection, pause_seconds)
        case "gzip":
            return GzipBody(connection)
        case "wrong_length":
            return WrongLengthBody(connection)
        case _:
            return ChunkedBody(connection)
