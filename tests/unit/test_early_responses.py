"""Responses that an upstream sends before it has read the request (RFC 9112, 9.5)."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ridges_proxy.errors import UpstreamBrokenError, UpstreamBusyError, UpstreamError, UpstreamRejectedError
from ridges_proxy.upstream import Attempt, ChutesClient
from tests.support.app import settings_of
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b'{"inputs": "' + b"x" * (8 << 20) + b'"}'
"""More than the buffers of both sockets hold, so that writing it takes until the upstream reads."""

RECEIVE_BYTES = 4_096
READ_BYTES = 1 << 20


def whole(answer: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer)


EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n"
STALE, OWN = b'["stale"]', b'["own"]'


class Row(NamedTuple):
    early: bytes
    """Sent after the first bytes of the request."""
    late: bytes | None
    """Sent after the whole request. None: the upstream closes the connection without reading the rest."""
    error: type[UpstreamError] | None
    refused: bool
    connections: int
    """For this call and the next one together."""


ROWS = {
    "a refusal": Row(
        whole(b"{}", b"413 Too Large"), None, UpstreamRejectedError, refused=True, connections=2
    ),
    "a refusal for now": Row(whole(b"{}", b"429 Busy"), None, UpstreamBusyError, refused=True, connections=2),
    "a refusal by an upstream that reads on": Row(
        whole(b"{}", b"413 Too Large"), b"", UpstreamRejectedError, refused=True, connections=1
    ),
    "an answer": Row(whole(STALE), None, UpstreamBrokenError, refused=False, connections=2),
    "an answer after an interim response": Row(
        EARLY + whole(STALE), None, UpstreamBrokenError, refused=False, connections=2
    ),
    "only an interim response": Row(EARLY, None, UpstreamBrokenError, refused=False, connections=2),
    "nothing": Row(b"", None, UpstreamBrokenError, refused=False, connections=2),
    "an interim response by an upstream that reads on": Row(
        EARLY, whole(OWN), None, refused=False, connections=1
    ),
}


class Upstream:
    """Handles the first request by a row, and answers all others."""

    def __init__(self, row: Row) -> None:
        self.row: Row | None = row
        self.connections = 0

    @contextmanager
    def serving(self) -> Iterator[str]:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            thread = threading.Thread(target=self._accept, args=[listener])
            thread.start()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/embed"
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            while start := sock.recv(RECEIVE_BYTES):
                row, self.row = self.row, None
                if row is not None:
                    sock.sendall(row.early)
                    if row.late is None:
                        return
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)  # so that reading is fast
                rest_bytes = length_of(start) - len(start)
                while rest_bytes > 0 and (piece := sock.recv(min(rest_bytes, READ_BYTES))):
                    rest_bytes -= len(piece)
                sock.sendall(whole(OWN) if row is None else row.late or b"")


def length_of(start: bytes) -> int:
    head, _, _ = start.partition(b"\r\n\r\n")
    (length,) = (line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return len(head) + 4 + int(length)


@each_row("name", ROWS)
def test_an_early_response_is_a_refusal_or_an_error_and_never_an_answer(name: str) -> None:
    row, attempt = ROWS[name], Attempt()
    upstream = Upstream(row)
    with upstream.serving() as url:
        client = ChutesClient(settings_of(CHUTES_EMBEDDING_URL=url))
        with closing(client._adapter):
            if row.error is None:
                assert client.embed([BODY], attempt).content == OWN
            else:
                with pytest.raises(row.error):
                    client.embed([BODY], attempt)
            assert (attempt.sent, attempt.refused, attempt.complete) == (True, row.refused, row.error is None)
            assert client.embed([b"{}"], Attempt()).content == OWN
    assert upstream.connections == row.connections
