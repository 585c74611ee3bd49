"""A TCP proxy that drops replies of a server: the command has run, but its caller gets no reply."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

CHUNK_BYTES = 1 << 16


class LossyProxy:
    """A context manager. `loss_rate` is the share of replies that are dropped, with their connection."""

    def __init__(self, port: int, seed: int, host: str = "127.0.0.1") -> None:
        self.loss_rate = 0.0
        self.lost = 0
        seeded, proxy = random.Random(seed), self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                    while True:
                        for ready in select.select([self.request, server], [], [])[0]:
                            data = ready.recv(CHUNK_BYTES)
                            if not data:
                                return
                            if ready is server and seeded.random() < proxy.loss_rate:
                                proxy.lost += 1
                                return
                            (server if ready is self.request else self.request).sendall(data)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server((host, 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
