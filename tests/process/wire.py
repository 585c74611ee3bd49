"""A client that has its connection in its own hands: bytes out, answers in, and every way to leave."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.support.app import PROXY_KEY

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 30.0
"""For everything that must happen at once: only a hang takes longer."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The stable code of an error; None for what is none."""
        found = self.json
        return found.get("code") if isinstance(found, dict) else None

    @property
    def outcome(self) -> tuple[int, str | None]:
        return self.status, self.code


def head(path: str, *, key: str = PROXY_KEY, method: str = "POST", **headers: str) -> bytes:
    """Write a request's head; a header's name is written with underscores for its dashes."""
    given = {"Host": "proxy", "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: object, *, key: str = PROXY_KEY, **headers: str) -> bytes:
    """Write a whole request."""
    data = json.dumps(body).encode()
    return head(path, key=key, Content_Length=str(len(data)), **headers) + data


def chunked(data: bytes, size: int) -> bytes:
    """Frame data in chunks of a size, without the last one."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Wire:
    """One connection. It closes with the context, however it was left before."""

    def __init__(self, port: int, receive_bytes: int | None = None) -> None:
        self._sock = socket.socket()
        self._sock.settimeout(PATIENCE_SECONDS)
        if receive_bytes is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            self._sock.connect(("127.0.0.1", port))
        except OSError:
            self._sock.close()
            raise
        self._reader = self._sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._sock.sendall(data)

    def answer(self) -> Answer:
        """Read the next answer; EOFError if the connection ends before its end."""
        status = int(self._line().split()[1])
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        body = self._reader.read(size)
        if len(body) < size:
            raise EOFError(f"{len(body)} of {size} bytes")
        return Answer(status, headers, body)

    def first_line(self) -> str:
        """The first line that comes; EOFError if the connection ends before it."""
        return self._line()

    def ended(self) -> bool:
        """Wait for the connection's end: True if nothing came before it."""
        try:
            return not self._reader.read(1)
        except ConnectionResetError:
            return True

    def hang_up(self) -> None:
        """Leave with a FIN."""
        self._reader.close()
        self._sock.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.hang_up()

    def half_close(self) -> None:
        """Send nothing more, and go on reading."""
        self._sock.shutdown(socket.SHUT_WR)

    def _line(self) -> str:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"in a head, after {line!r}")
        return line.decode("latin-1").rstrip("\r\n")
