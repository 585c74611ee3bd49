"""urllib3 connections with their own writing of requests and reading of responses.

urllib3 connects, checks certificates, manages the pool and raises the errors. Only the writing of a request
and the reading of a response are replaced: http.client took half of an upstream call's time, returned one
chunk per read, and gave a late answer to the next request (RFC 9110, 15.2: interim responses other than 100).
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.runtime.socket_state import has_input
from ridges_proxy.runtime.socket_writes import write_all
from ridges_proxy.upstream.http.response import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IDLE_SECONDS = 4.0
"""Idle time after which a pooled connection is not used again. `close_idle` closes it.

uvicorn has the shortest limit of the common servers: it closes an idle connection after 5 s. A request that
is written while the server closes the connection may be billed.
"""

CLOSED_AT_ONCE = 16
"""Idle connections that are closed in one step. With TLS, each takes 60 µs."""

BLOCK_BYTES = 1 << 18
"""Bytes of a body in one write. The first block is written together with the head."""


class _Connection(HTTPConnection):
    @property
    def is_connected(self) -> bool:
        """Whether an idle connection is still open and has received nothing."""
        return self.sock is not None and not has_input(self.sock)

    def request(  # type: ignore[override] # urllib3's own method differs from http.client's in the same way
        self,
        method: str,
        url: str,
        body: Any = None,  # noqa: ANN401 - a file, such as RequestBody
        headers: Mapping[str, str] | None = None,
        **_options: object,
    ) -> None:
        """Write a request. Its headers must contain the length of the body.

        With `Connection: close` it is the last one on its connection (RFC 9112, 9.6).
        """
        self._is_last = headers is not None and headers.get("Connection") == "close"
        fields = [f"{method} {url} HTTP/1.1", self._host_field]
        fields += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(fields).encode("ascii") + b"\r\n\r\n"
        if self.sock is None:
            self.connect()
        self._is_written = False
        self.sock.settimeout(self.timeout)
        block = body.read(BLOCK_BYTES) if body else b""
        write_all(self.sock, head + block)
        while len(block) == BLOCK_BYTES:  # a shorter one is the last
            block = body.read(BLOCK_BYTES)
            write_all(self.sock, block)
        self._is_written = True

    def getresponse(self) -> ResponseReader:  # type: ignore[override] # all that is used of urllib3's own
        """Read the head of the response."""
        self.sock.settimeout(self.timeout)
        return ResponseReader(self, is_request_written=self._is_written, is_last=self._is_last)

    @cached_property
    def _host_field(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Host: {host}" if self.port == self.default_port else f"Host: {host}:{self.port}"


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class FreshConnections(HTTPConnectionPool):
    """A pool that uses no connection again that was idle for more than MAX_IDLE_SECONDS."""

    ConnectionCls = _Connection  # type: ignore[assignment] # for `getresponse`

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - urllib3's base class is private
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as above
        conn: Any = super()._get_conn(timeout)
        if _was_idle_too_long(conn):
            conn.close()  # it connects again at the next request
        return conn

    def close_idle(self) -> None:
        """Close the connections that were idle for too long, and forget them.

        The pool uses the connection again that was used last. The others that a burst of calls has opened
        would stay open. When the upstream closes its side, they would stay half open and keep their buffers.
        """
        pooled: list[Any] = self.pool.queue if self.pool else []  # None stands for one to be opened
        closed = 0
        for place, conn in enumerate(pooled):  # meanwhile, calls take from its end and add to it
            if conn is not None and _was_idle_too_long(conn):
                pooled[place] = None
                conn.close()
                closed += 1
                if closed % CLOSED_AT_ONCE == 0:
                    pause()


def _was_idle_too_long(conn: Any) -> bool:  # noqa: ANN401 - urllib3's base class is private
    now = time.monotonic()
    return now - getattr(conn, "idle_since", now) > MAX_IDLE_SECONDS


class FreshSecureConnections(FreshConnections, HTTPSConnectionPool):
    """The same pool for TLS."""

    ConnectionCls = _SecureConnection  # type: ignore[assignment] # as above
