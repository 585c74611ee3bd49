"""Writes to a socket of gevent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket


def write_all(sock: socket, data: bytes) -> None:
    """Write all of the data, as `sendall` does.

    Mostly the kernel takes it at once. gevent's `sendall` first asks it for the size of its buffer.
    """
    sent_bytes = sock.send(data)
    if sent_bytes < len(data):
        sock.sendall(data[sent_bytes:])
