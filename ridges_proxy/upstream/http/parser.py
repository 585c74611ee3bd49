"""The parser of one response: llhttp, and the limits and checks that it does not have. Pure.

It also tells whether more data than the response was received. llhttp does not tell where a response ends in
the data, so the last byte of all data is parsed by itself: the response must end with it, and not before.
"""

from __future__ import annotations

from http.client import HTTPException, IncompleteRead

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from urllib3._collections import HTTPHeaderDict

from ridges_proxy.upstream.http import head as heads

MAX_FRAMING_BYTES = 65_536
"""Limit of the data in a row that contains nothing of the body: chunk sizes, extensions and trailers.

llhttp has no limit, and httptools keeps a trailer in memory until its line ends.
"""


class _EndError(Exception):
    """Stops llhttp at the end of a response, so that it reads nothing of the data behind it."""


class _Message:
    """The callbacks of one response. It has no reference to the parser: cycles wait for the collector."""

    def __init__(self) -> None:
        self.headers = HTTPHeaderDict()
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self.has_head = False
        self.ended = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head. Trailers must not be merged with it (RFC 9110, 6.5.1)."""
        if not self.has_head:
            self.headers.add(name.decode("ascii"), value.strip(b" \t").decode("iso-8859-1"))

    def on_headers_complete(self) -> None:
        """Record the end of the head."""
        self.has_head = True

    def on_message_complete(self) -> None:
        """Record the end of the response, and stop."""
        self.ended = True
        raise _EndError


class ResponseParser:
    """One response. Its head is given at once, its body in any pieces."""

    def __init__(self, head: bytes) -> None:
        """Parse a head with its empty line. Raises HTTPException if it is invalid."""
        self._message = _Message()
        self._parser = HttpResponseParser(self._message)
        self._parser.set_dangerous_leniencies(
            lenient_spaces_after_chunk_size=True,  # as old servers send
            lenient_chunked_length=True,  # of a length in the trailers, which means nothing
        )
        rewritten = heads.rewrite(head)
        if not self._parse(rewritten):
            raise HTTPException("an invalid head")
        self.headers = self._message.headers
        self.status = self._parser.get_status_code()
        self.is_interim = heads.is_interim(self.status)
        is_chunked = heads.is_chunked(self.headers)
        self.ends_with_connection = not (self.ended or is_chunked or "Content-Length" in self.headers)
        self.is_persistent = not (
            self.ends_with_connection
            or rewritten.startswith(b"HTTP/1.0")  # servers differ in what keeps such a connection open
            or (is_chunked and heads.has_length(head))
            or heads.closes(self.headers)
        )
        self.broken = False
        self.has_surplus = False
        self._framing_bytes = 0

    @property
    def ended(self) -> bool:
        """Whether the end of the response was received."""
        return self._message.ended

    def feed(self, data: bytes) -> bytes:
        """Return what the data contains of the body. Empty data is the end of the connection.

        Raises IncompleteRead where the body is cut or invalid, after all data before that point was returned.
        """
        if self.ended:
            self.has_surplus = self.has_surplus or bool(data)
            return b""
        if not data and self.ends_with_connection:
            self._message.ended = True
            return b""
        self.broken = not (data and self._parse_to_the_last_byte(data))
        body = b"".join(self._message.pieces)
        self._message.pieces.clear()
        self._framing_bytes = 0 if body else self._framing_bytes + len(data)
        self.broken |= self._framing_bytes > MAX_FRAMING_BYTES
        if self.broken and not body:
            raise IncompleteRead(b"")
        return body

    def _parse_to_the_last_byte(self, data: bytes) -> bool:
        is_valid = self._parse(data[:-1])
        if self.ended:
            self.has_surplus = True
            return True
        return is_valid and self._parse(data[-1:])

    def _parse(self, data: bytes) -> bool:
        """Parse data. Returns whether it is valid up to the end of the response."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            return self.ended
        return True
