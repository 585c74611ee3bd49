"""Requests to an upstream, as they are written on a connection."""

from __future__ import annotations

import io
from contextlib import closing
from typing import Any, cast

from ridges_proxy.upstream.http.adapter import Adapter
from ridges_proxy.upstream.http.connection import BLOCK_BYTES
from tests.support.table import check_rows

TIMEOUT_SECONDS = 7.5
MAX_TAKEN_BYTES = BLOCK_BYTES // 2


class Wire:
    """A socket that keeps what is written, and each write's time limit."""

    def __init__(self) -> None:
        self.written = b""
        self.limits: set[float | None] = set()
        self._limit: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._limit = seconds

    def send(self, data: bytes) -> int:
        """Take a part of it, as a kernel with a full buffer does."""
        taken = data[:MAX_TAKEN_BYTES]
        self.sendall(taken)
        return len(taken)

    def sendall(self, data: bytes) -> None:
        self.written += data
        self.limits.add(self._limit)

    def close(self) -> None:
        """Close nothing."""


def write(url: str, body: bytes = b"") -> Wire:
    wire = Wire()
    with closing(Adapter(1)) as adapter:
        connection: Any = adapter.poolmanager.connection_from_url(url)._new_conn()
        connection.sock, connection.timeout = cast("Any", wire), TIMEOUT_SECONDS
        connection.request("POST", "/path", io.BytesIO(body) if body else None, {"X": "y"})
    return wire


def test_the_host_is_named_with_the_port_that_is_not_the_usual_one() -> None:
    rows = {
        "http://chutes.test": b"chutes.test",
        "http://chutes.test:80": b"chutes.test",
        "http://chutes.test:443": b"chutes.test:443",
        "https://chutes.test": b"chutes.test",
        "https://chutes.test:80": b"chutes.test:80",
        "http://[::1]": b"[::1]",
        "http://[::1]:8080": b"[::1]:8080",
    }

    def check(row: tuple[str, bytes]) -> None:
        url, host = row
        assert write(url).written == b"POST /path HTTP/1.1\r\nHost: %b\r\nX: y\r\n\r\n" % host

    check_rows(rows.items(), check)


def test_a_body_of_any_size_is_written_behind_the_head_with_a_time_limit() -> None:
    def check(size_bytes: int) -> None:
        body = b"ab" * (size_bytes // 2)
        wire = write("http://chutes.test", body)
        assert wire.written.partition(b"\r\n\r\n")[2] == body
        assert wire.limits == {TIMEOUT_SECONDS}

    check_rows([0, 2, BLOCK_BYTES, 3 * BLOCK_BYTES + 2], check)
