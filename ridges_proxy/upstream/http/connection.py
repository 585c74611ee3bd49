"""Connections of urllib3 that write a request at once and read the answer as ours.

urllib3 connects, checks certificates, keeps the pool and says what went wrong. A request is written and the
head of its answer read here: http.client's ways of doing both took half of an upstream call's time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3._collections import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection

from ridges_proxy.runtime.socket_state import has_input
from ridges_proxy.upstream.http.parser import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IDLE_SECONDS = 4.0
"""A pooled connection idle for longer is not used again: uvicorn, with the shortest limit in the field,
closes its own after 5, and a request written into a connection that is just closing may be billed."""

BLOCK_BYTES = 1 << 18
"""Of a body, handed to the socket at once; the first with the head."""


class _Connection(HTTPConnection):
    @property
    def is_connected(self) -> bool:
        """Whether nothing has come on an idle connection, its end included."""
        return self.sock is not None and not has_input(self.sock)

    def request(  # type: ignore[override] # urllib3's own differs from http.client's in the same way
        self,
        method: str,
        url: str,
        body: Any = None,  # noqa: ANN401 - a file, as RequestBody is one
        headers: Mapping[str, str] | None = None,
        **_options: object,
    ) -> None:
        """Write a request whose headers say how long its body is."""
        fields = [f"{method} {url} HTTP/1.1", f"Host: {self._netloc()}"]
        fields += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(fields).encode("ascii") + b"\r\n\r\n"
        if self.sock is None:
            self.connect()
        self._asked = method, url
        self.sock.settimeout(self.timeout)
        self.sock.sendall(head + body.read(BLOCK_BYTES) if body else head)
        while body and (block := body.read(BLOCK_BYTES)):
            self.sock.sendall(block)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # the same
        """Read the head of the answer."""
        self.sock.settimeout(self.timeout)
        method, url = self._asked
        answer = Answer(self.sock, method=method)
        try:
            answer.begin()
        except BaseException:
            answer.close()  # with it, the socket
            raise
        if answer.will_close:
            self.close()  # the socket stays open for as long as the answer is
        return HTTPResponse(
            body=answer,
            headers=HTTPHeaderDict(answer.msg.items()),
            status=answer.status,
            reason=answer.reason,
            preload_content=False,
            decode_content=False,
            original_response=answer,
            request_method=method,
            request_url=url,
        )

    def _netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == self.default_port else f"{host}:{self.port}"


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class FreshConnections(HTTPConnectionPool):
    """Drops a connection that has been idle for MAX_IDLE_SECONDS instead of handing it out."""

    ConnectionCls = _Connection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - the same
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - a base class that urllib3 keeps private
        conn: Any = super()._get_conn(timeout)
        if time.monotonic() - getattr(conn, "idle_since", time.monotonic()) > MAX_IDLE_SECONDS:
            conn.close()  # it connects anew when used
        return conn


class FreshSecureConnections(FreshConnections, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _SecureConnection
