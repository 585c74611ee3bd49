"""Requests, and the ways to send them: all at once, patiently, or leaving before the answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from tests.process.fake_chutes_control import directive
from tests.process.wire import RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_SECONDS = 30.0
WORDS = 2_048
"""Twice what a call asks for: who lets more through is found out, and the fake need not make up more."""

READ_BYTES = 65_536
NO_ANSWER = 0
"""The status of a request whose connection ended without one."""


class Kind(StrEnum):
    """What a call asks for."""

    AGENTS = "/agents"
    WHOLE = "/v1 whole"
    STREAM = "/v1 streamed"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Ask:
    """One request, to one of a gateway's servers."""

    port: int
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"

    def raw(self) -> bytes:
        """As it goes over the wire; the connection ends with the answer."""
        length = str(len(self.body))
        given = {"Host": "gateway", "Content-Length": length, "Connection": "close", **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    embedding_seconds: float = 0.0
    """How long an embedding took, which is paid by time; 0 for all else."""

    @property
    def good(self) -> bool:
        """Whether it was a call's answer, and no refusal in the form of one."""
        return self.status == 200 and not self.body.startswith(b'{"error"')

    @property
    def refused(self) -> bool:
        """Whether the request was found wrong: no failure, and no want of an answer."""
        return 400 <= self.status < 500


def greedy(**asked: object) -> str:
    """What makes the fake Chutes bill, and report, all of max_tokens, however short its answer is."""
    return directive(billed=True, greedy=True, **asked)


def wordy(**asked: object) -> str:
    """What makes the fake Chutes say as much as max_tokens lets it, and bill what it has said."""
    return directive(**{"billed": True, "events": WORDS, **asked})


def send(ask: Ask) -> Reply:
    """Send it, and read the whole answer."""
    connection = HTTPConnection(ask.host, ask.port, timeout=TIMEOUT_SECONDS)
    began = time.monotonic()
    try:
        connection.request("POST", ask.path, ask.body, ask.headers)
        answer = connection.getresponse()
        body = answer.read()
        paid_by_time = ask.path.endswith("/embedding")
        return Reply(answer.status, body, time.monotonic() - began if paid_by_time else 0.0)
    except (OSError, HTTPException):
        return Reply(NO_ANSWER, b"")
    finally:
        connection.close()


def at_once(asks: Sequence[Ask]) -> list[Reply]:
    """Send all of them in the same moment."""
    start = threading.Barrier(len(asks))

    def wait_and_send(ask: Ask) -> Reply:
        start.wait()
        return send(ask)

    with ThreadPoolExecutor(len(asks)) as threads:
        return list(threads.map(wait_and_send, asks))


class Caller:
    """A client with its connection in its own hands, to leave when it likes."""

    def __init__(self, ask: Ask) -> None:
        self._sock = socket.create_connection((ask.host, ask.port), timeout=TIMEOUT_SECONDS)
        self._sock.sendall(ask.raw())

    def over(self) -> bool:
        """Whether the whole answer has come, or the end; what has come by now is read."""
        self._sock.setblocking(False)
        try:
            while self._sock.recv(READ_BYTES):
                pass
        except BlockingIOError:
            return False
        except OSError:
            return True  # reset: whoever was to answer is gone
        return True

    def leave(self) -> None:
        """Hang up in the rudest way: with an RST."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._sock.close()
