"""Responses that a load generator awaits on many connections at once."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass

LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class PendingResponse:
    """The response of one request, and how far it has been received."""

    sock: socket.socket
    started_at: float
    """When the request was sent, or was due."""
    failed: bool = False
    """Whether the status is another one than 200."""
    _tail: bytes = b""
    """The head until it is complete; then the last bytes of a chunked body."""
    _remaining_bytes: int | None = None
    """Of a body with a length; None for a chunked one."""
    _head_received: bool = False

    def feed(self, data: bytes) -> bool:
        """Take in received bytes. Whether the response is complete."""
        if not self._head_received:
            self._tail += data
            head, separator, data = self._tail.partition(b"\r\n\r\n")
            if not separator:
                return False
            self._read_head(head)
        if self._remaining_bytes is not None:
            self._remaining_bytes -= len(data)
            return self._remaining_bytes <= 0
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        return self._tail == LAST_CHUNK

    def _read_head(self, head: bytes) -> None:
        self._head_received = True
        self.failed = not head.startswith(b"HTTP/1.1 200")
        _, header, value = head.lower().partition(b"content-length:")
        self._remaining_bytes = int(value.split(b"\r\n")[0]) if header else None
        self._tail = b""


def connect(port: int, poll: select.epoll) -> socket.socket:
    """Open a connection and register it for reading."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(sock, select.EPOLLIN)
    return sock
