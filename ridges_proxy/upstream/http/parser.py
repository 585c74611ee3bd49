"""The upstream's responses: http.client's class with two changes.

Header fields are parsed by a simple loop: http.client uses a parser for e-mails, which takes 90 µs. Chunked
bodies are decoded by ChunkedBody: http.client returns one chunk per read, and upstreams send each event in
its own chunk.
"""

from __future__ import annotations

import http.client
import io
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from ridges_proxy.runtime import content_length
from ridges_proxy.upstream.http.chunked_body import ChunkedBody

if TYPE_CHECKING:
    from io import BufferedReader

MAX_LINE_BYTES = 65_536
"""Limit as in http.client."""

HEAD_BYTES = 1_024
"""Buffer for reading a head. It exists as long as the response; the body does not use it."""

MAX_INTERIM = 10
"""Limit of interim responses. Without it an endless series would never time out, because no read waits."""

MAX_FIELDS = 100
"""Limit as in http.client."""

_STATUS_LINE = re.compile(r"HTTP/(1\.[0-9]|0\.9)[ \t]+([1-9][0-9]{2})(?:[ \t]+(.*?))?[ \t]*\r?\n?")
_WITHOUT_BODY = {*range(100, 200), HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class ResponseReader(http.client.HTTPResponse):
    """A response whose head is read by `begin`. Raises subclasses of HTTPException for an invalid head."""

    def begin(self) -> None:
        """Read the head, and determine where the body ends."""
        self.fp = io.BufferedReader(self.fp.detach(), HEAD_BYTES)
        for _ in range(MAX_INTERIM + 1):
            self._read_status_line()
            if self.status != HTTPStatus.CONTINUE:
                break
            read_fields(self.fp)
        else:
            raise http.client.HTTPException(f"more than {MAX_INTERIM} interim responses")
        self.headers = self.msg = read_fields(self.fp)
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.chunked = False
        self.length = self._content_length()
        if self.status in _WITHOUT_BODY:
            self.length = 0
        elif chunked:
            self.length = None
            self.fp = cast("BufferedReader", ChunkedBody(self.fp))
            del self.headers["Transfer-Encoding"]  # otherwise the calling libraries would decode it again
        self.will_close = not self._is_persistent() or (self.length is None and not chunked)

    def read1(self, n: int = -1) -> bytes:
        """Return the data that has arrived. After the last byte the connection returns to the pool."""
        return self._close_at_end(super().read1(n))

    def read(self, amt: int | None = None) -> bytes:
        """Return `amt` bytes, or all. As after `read1`, the connection returns to the pool."""
        return self._close_at_end(super().read(amt))

    def _close_at_end(self, read: bytes) -> bytes:
        if isinstance(self.fp, ChunkedBody) and self.fp.at_end:
            self.close()
        return read

    def _read_status_line(self) -> None:
        line = self.fp.readline(MAX_LINE_BYTES)
        if not line:
            raise http.client.RemoteDisconnected("closed without a response")
        match = _STATUS_LINE.fullmatch(line.decode("iso-8859-1"))
        if match is None:
            raise http.client.BadStatusLine(repr(line[:80]))
        self.version = 10 if match[1] in {"1.0", "0.9"} else 11  # http.client's numbers
        self.code = self.status = int(match[2])
        self.reason = match[3] or ""

    def _content_length(self) -> int | None:
        """Return Content-Length; None if it is missing or invalid: then the body ends with the connection."""
        length_bytes = content_length.bytes_of(self.headers.get("Content-Length", ""))
        return None if length_bytes == content_length.TOO_LONG else length_bytes

    def _is_persistent(self) -> bool:
        connection = self.headers.get("Connection", "").lower()
        if self.version > 10:  # noqa: PLR2004 - HTTP/1.0
            return "close" not in connection
        return "keep-alive" in connection or bool(self.headers.get("Keep-Alive"))


def read_fields(file: BufferedReader) -> http.client.HTTPMessage:
    """Return the header fields up to the empty line after them."""
    message = http.client.HTTPMessage()
    for _ in range(MAX_FIELDS + 1):
        line = file.readline(MAX_LINE_BYTES)
        if line in {b"\r\n", b"\n"}:
            return message
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        name, colon, value = line.decode("iso-8859-1").partition(":")
        if not colon or not name or name != name.strip():
            raise http.client.HTTPException("invalid header line")
        message.set_raw(name, value.strip(" \t\r\n"))
    raise http.client.HTTPException(f"more than {MAX_FIELDS} fields")
