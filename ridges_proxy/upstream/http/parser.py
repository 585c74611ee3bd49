"""The upstream's answers, as http.client gives them but for two things.

Their fields are read by a loop: http.client takes a parser for e-mails, which needs 90 µs. And a chunked body
is a file without chunks: http.client gives one of them a read, and upstreams put each event into its own.
"""

from __future__ import annotations

import http.client
import io
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from ridges_proxy.runtime import content_length
from ridges_proxy.upstream.http.chunked_body import Dechunked

if TYPE_CHECKING:
    from io import BufferedReader

MAX_LINE_BYTES = 65_536
"""As in http.client."""

HEAD_BYTES = 1_024
"""What is read at once of a head. A body goes past this buffer, which lasts as long as the answer."""

MAX_INTERIM = 10
"""Answers before the answer. An upstream that pours them lets no read wait: nothing else would end it."""

MAX_FIELDS = 100
"""As in http.client."""

_STATUS_LINE = re.compile(r"HTTP/(1\.[0-9]|0\.9)[ \t]+([1-9][0-9]{2})(?:[ \t]+(.*?))?[ \t]*\r?\n?")
_WITHOUT_BODY = {*range(100, 200), HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class Answer(http.client.HTTPResponse):
    """An answer whose head is read by `begin`, which raises HTTPException's kinds for what is none."""

    def begin(self) -> None:
        """Read the head, and find out where the body ends."""
        self.fp = io.BufferedReader(self.fp.detach(), HEAD_BYTES)
        for _ in range(MAX_INTERIM + 1):
            self._read_status_line()
            if self.status != HTTPStatus.CONTINUE:
                break
            read_fields(self.fp)
        else:
            raise http.client.HTTPException(f"more than {MAX_INTERIM} interim answers")
        self.headers = self.msg = read_fields(self.fp)
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.chunked = False
        self.length = self._announced_length()
        if self.status in _WITHOUT_BODY:
            self.length = 0
        elif chunked:
            self.length = None
            self.fp = cast("BufferedReader", Dechunked(self.fp))
            del self.headers["Transfer-Encoding"]  # the libraries above would look for chunks, too
        self.will_close = not self._stays_open() or (self.length is None and not chunked)

    def read1(self, n: int = -1) -> bytes:
        """Return what has come. With the last byte the connection is free, not only at a read behind it."""
        return self._closed_at_end(super().read1(n))

    def read(self, amt: int | None = None) -> bytes:
        """Return so many bytes, or all; the connection is free as after `read1`."""
        return self._closed_at_end(super().read(amt))

    def _closed_at_end(self, read: bytes) -> bytes:
        if isinstance(self.fp, Dechunked) and self.fp.at_end:
            self.close()
        return read

    def _read_status_line(self) -> None:
        line = self.fp.readline(MAX_LINE_BYTES)
        if not line:
            raise http.client.RemoteDisconnected("closed without an answer")
        match = _STATUS_LINE.fullmatch(line.decode("iso-8859-1"))
        if match is None:
            raise http.client.BadStatusLine(repr(line[:80]))
        self.version = 10 if match[1] in {"1.0", "0.9"} else 11  # as http.client writes them
        self.code = self.status = int(match[2])
        self.reason = match[3] or ""

    def _announced_length(self) -> int | None:
        """Content-Length; None where there is none that makes sense: the body ends with the connection."""
        length_bytes = content_length.bytes_of(self.headers.get("Content-Length", ""))
        return None if length_bytes == content_length.BEYOND_ALL else length_bytes

    def _stays_open(self) -> bool:
        says = self.headers.get("Connection", "").lower()
        if self.version > 10:  # noqa: PLR2004 - HTTP/1.0
            return "close" not in says
        return "keep-alive" in says or bool(self.headers.get("Keep-Alive"))


def read_fields(file: BufferedReader) -> http.client.HTTPMessage:
    """The fields of a head, up to the empty line behind them."""
    message = http.client.HTTPMessage()
    for _ in range(MAX_FIELDS + 1):
        line = file.readline(MAX_LINE_BYTES)
        if line in {b"\r\n", b"\n"}:
            return message
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        name, colon, value = line.decode("iso-8859-1").partition(":")
        if not colon or not name or name != name.strip():
            raise http.client.HTTPException("a line that is no field")
        message.set_raw(name, value.strip(" \t\r\n"))
    raise http.client.HTTPException(f"more than {MAX_FIELDS} fields")
