"""A response that is read from a connection of urllib3.

It takes the place of urllib3's own response. That one decodes and buffers bodies in many ways, which took two
kilobytes for each open stream and ten function calls for each read.
"""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING

from ridges_proxy.upstream.http.head import HEAD_END, check_start
from ridges_proxy.upstream.http.parser import ResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import HTTPConnectionPool
    from urllib3.connection import HTTPConnection

READ_BYTES = 65_536
"""More than a TLS record (16 KiB), so that no decrypted data waits where `is_connected` cannot see it."""

MAX_INTERIM = 10
"""Limit of interim responses. Without it an endless series would never time out, because no read waits."""


class ResponseReader:
    """The response to the request that was written on a connection.

    The connection stays open after it only if exactly one complete response was received and nothing more,
    and the request was not its last one. In all other cases it is closed, because the rest would be read as
    the response to another run's request. Then it returns to its pool.
    """

    version_string = "HTTP/1.1"
    """For urllib3's log, as the next one."""
    length_remaining = None
    retries = None
    """urllib3 sets this attribute and the next two."""
    _pool: HTTPConnectionPool | None = None
    _connection: HTTPConnection | None = None
    """The connection that returns to the pool."""

    def __init__(
        self, connection: HTTPConnection, *, is_request_written: bool, is_last: bool = False
    ) -> None:
        """Read the head. If it is invalid, close the connection and raise an HTTPException."""
        self._source: HTTPConnection | None = connection
        self._receive: Callable[[int], bytes] = connection.sock.recv
        self._undecoded = b""
        self._body = b""
        self._is_reusable = False
        try:
            self._parser = self._read_final_head()
            self._check_order(self._parser.status, is_request_written=is_request_written)
        except BaseException:
            self.close()
            raise
        self.headers, self.status = self._parser.headers, self._parser.status
        self._is_reusable = is_request_written and not is_last and self._parser.is_persistent
        if self._parser.ended and self._undecoded:
            self._parser.feed(self._undecoded)  # it counts as surplus

    @property
    def closed(self) -> bool:
        """Whether everything was read, or the response was closed before."""
        return self._source is None

    def read1(self, size: int = -1, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as urllib3's
        """Return the data that has arrived, up to `size` bytes. Wait only if there is none.

        It is never decoded. Raises an HTTPException if the body is cut or invalid, and OSError.
        """
        if self.closed:
            return b""
        while not self._body and not self._parser.ended:
            received = self._undecoded or (b"" if self._parser.broken else self._receive(READ_BYTES))
            self._undecoded = b""
            self._body = self._parser.feed(received)
        body = self._body if size < 0 else self._body[:size]
        self._body = self._body[len(body) :]
        if self._parser.ended and not self._body:
            self.close()
        return body

    def read(self, size: int = -1, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as above
        """Return `size` bytes, or all data until the end. Raises what `read1` raises."""
        pieces = []
        while size and (piece := self.read1(size)):
            pieces.append(piece)
            size -= len(piece)  # below 0 it stays below: all data
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back. It is closed if another response must not be read from it."""
        source, self._source = self._source, None
        is_clean = self._is_reusable and self._parser.ended and not self._parser.has_surplus
        if source is not None and not is_clean:
            source.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._put_conn(self._connection)  # noqa: SLF001 - as urllib3's own response does
            self._connection = None

    @staticmethod
    def _check_order(status: int, *, is_request_written: bool) -> None:
        """Refuse a success that came before the request was written: it cannot be the response to it.

        An early refusal is valid (RFC 9112, 9.5): a server may refuse a request that it has not read.
        """
        if not is_request_written and status < HTTPStatus.MULTIPLE_CHOICES:
            raise HTTPException("a response before the request was written")

    def _read_final_head(self) -> ResponseParser:
        """Read heads until one is not interim: a client expects any number of those (RFC 9110, 15.2)."""
        for _ in range(MAX_INTERIM + 1):
            parser = self._read_head()
            if not parser.is_interim:
                return parser
        raise HTTPException(f"more than {MAX_INTERIM} interim responses")

    def _read_head(self) -> ResponseParser:
        head = self._undecoded
        searched_bytes = 0
        while not (end := HEAD_END.search(head, max(0, searched_bytes - len(b"\n\r")))):
            check_start(head)
            searched_bytes = len(head)
            received = self._receive(READ_BYTES)
            if not received:
                raise IncompleteRead(head)
            head += received
        self._undecoded = head[end.end() :]
        return ResponseParser(head[: end.end()])
