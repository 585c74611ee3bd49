"""A server on plain sockets that sends the same bytes to each client, even ones that break HTTP."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A complete response. Underscores in the names of headers become hyphens."""
    all_headers = {"Content_Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in all_headers.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class OneAnswer:
    """The server's URL, and the first bytes of each request."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self._listener = listener
        self._answer = answer

    def serve(self) -> None:
        """Answer until the listener is shut down."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65_536))
                try:
                    connection.sendall(self._answer)
                except OSError:
                    continue  # the client closed the connection early


@contextmanager
def answering(answer: bytes) -> Iterator[OneAnswer]:
    """Run a server that sends the bytes to each client and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = OneAnswer(listener, answer)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def closed_url() -> str:
    """A URL with a port on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
