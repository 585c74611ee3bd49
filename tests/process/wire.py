"""A raw HTTP client on a socket. It can send any bytes, and close the connection in every way."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.support.app import PROXY_KEY

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 50.0
"""Time limit for steps that are immediate. Only a server that hangs takes longer."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error code, or None for a response without one."""
        found = self.json
        return found.get("code") if isinstance(found, dict) else None

    @property
    def outcome(self) -> tuple[int, str | None]:
        return self.status, self.code


def head(path: str, *, key: str = PROXY_KEY, method: str = "POST", **headers: str) -> bytes:
    """Return the head of a request. Underscores in the names of headers become hyphens."""
    all_headers = {"Host": "proxy", "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: object, *, key: str = PROXY_KEY, **headers: str) -> bytes:
    """Return a complete request with a JSON body."""
    data = json.dumps(body).encode()
    return head(path, key=key, Content_Length=str(len(data)), **headers) + data


def chunked(data: bytes, size: int) -> bytes:
    """Split data into HTTP chunks of the size, without the final empty chunk."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class Wire:
    """One connection. The context manager closes it, if the test has not."""

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
        """Send raw bytes."""
        self._sock.sendall(data)

    def answer(self, *, has_body: bool = True) -> Answer:
        """Read the next response; one to HEAD has no body. Raises EOFError if the connection ends before."""
        status = int(self._line().split()[1])
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", "0")) if has_body else 0
        body = self._reader.read(size)
        if len(body) < size:
            raise EOFError(f"{len(body)} of {size} bytes")
        return Answer(status, headers, body)

    def first_line(self) -> str:
        """Read one line. Raises EOFError if the connection ends before the line does."""
        return self._line()

    def ended(self) -> bool:
        """Wait for a byte or for the end of the connection. Return True for the end."""
        try:
            return not self._reader.read(1)
        except ConnectionResetError:
            return True

    def hang_up(self) -> None:
        """Close the connection with a FIN."""
        self._reader.close()
        self._sock.close()

    def reset(self) -> None:
        """Close the connection with an RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.hang_up()

    def half_close(self) -> None:
        """Close the sending side only."""
        self._sock.shutdown(socket.SHUT_WR)

    def _line(self) -> str:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the head ends after {line!r}")
        return line.decode("latin-1").rstrip("\r\n")
