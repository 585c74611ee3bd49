"""The socket of a client while one of its requests is answered."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from ridges_proxy.runtime.socket_writes import write_all

if TYPE_CHECKING:
    from socket import socket

MAX_JOINED_BYTES = 65_536
"""Larger data is not copied to be joined with the head of its response."""


class ResponseSocket:
    """A client's socket that sends the head of a response together with the first bytes behind it.

    gunicorn writes them one by one, which takes two calls of the kernel, and mostly two packets. `flush` must
    follow at the end of the response, because some have a head only. gunicorn writes with `sendall` and
    `sendfile`; before a head, with `send` (100 Continue).
    """

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._head: bytes | None = None
        """The head that waits for the bytes behind it; empty after it was sent."""

    def sendall(self, data: bytes) -> None:
        """Send all of the data; but keep the first data, which is the head, until the next call."""
        if self._head is None:
            self._head = data
            return
        if self._head and len(data) <= MAX_JOINED_BYTES:
            data, self._head = self._head + data, b""
        self.flush()
        write_all(self._socket, data)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send a file, such as a script of the dashboard, behind the head. Returns the number of bytes."""
        self.flush()
        return self._socket.sendfile(file, offset, count)

    def flush(self) -> None:
        """Send the head, if it waits for bytes that did not come."""
        if self._head:
            head, self._head = self._head, b""
            write_all(self._socket, head)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every other attribute of a socket
        return getattr(self._socket, name)
