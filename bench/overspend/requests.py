"""The requests of a scenario, and the ways to send them: one, all at once, or leaving before the response."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from bench.http_request import EMBEDDING_PATH, Request
from tests.process.fake_chutes_control import directive
from tests.process.wire import RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_SECONDS = 30.0
MAX_EVENTS = 2_048
"""Events of an answer that only max_tokens limits: twice the tokens of a call, so that an excess is seen."""

READ_BYTES = 65_536
NO_RESPONSE = 0
"""The status of a request whose connection ended without a response."""


class CallKind(StrEnum):
    """The kinds of calls, under the names that the table uses."""

    AGENTS = "/agents"
    WHOLE = "/v1 whole"
    STREAM = "/v1 streamed"
    EMBEDDING = "embedding"


@dataclass(frozen=True, kw_only=True)
class GatewayRequest(Request):
    """A request to one of a gateway's servers."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Response:
    """The response to a request."""

    status: int
    body: bytes
    embedding_seconds: float = 0.0
    """The duration of an embedding, which is billed by time; 0 for all other calls."""

    @property
    def is_success(self) -> bool:
        """Whether it is the answer of a call. `/agents` refuses with status 200 and an error as the body."""
        return self.status == 200 and not self.body.startswith(b'{"error"')

    @property
    def is_client_error(self) -> bool:
        return 400 <= self.status < 500


def greedy_prompt(**options: object) -> str:
    """A prompt for which the fake Chutes bills and reports all of max_tokens, however short its answer is."""
    return directive(billed=True, greedy=True, **options)


def wordy_prompt(**options: object) -> str:
    """A prompt for which the fake Chutes answers as much as max_tokens permits, and bills its answer."""
    return directive(**{"billed": True, "events": MAX_EVENTS, **options})


def send(request: GatewayRequest) -> Response:
    """Send a request and read the whole response."""
    connection = HTTPConnection(request.host, request.port, timeout=TIMEOUT_SECONDS)
    started = time.monotonic()
    try:
        connection.request("POST", request.path, request.body, request.headers)
        response = connection.getresponse()
        body = response.read()
        seconds = time.monotonic() - started
        return Response(response.status, body, seconds if request.path == EMBEDDING_PATH else 0.0)
    except (OSError, HTTPException):
        return Response(NO_RESPONSE, b"")
    finally:
        connection.close()


def send_at_once(requests: Sequence[GatewayRequest]) -> list[Response]:
    """Send all requests at the same moment."""
    start = threading.Barrier(len(requests))

    def wait_and_send(request: GatewayRequest) -> Response:
        start.wait()
        return send(request)

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(wait_and_send, requests))


class OpenRequest:
    """A request whose response is awaited, on a connection that can be reset at any moment."""

    def __init__(self, request: GatewayRequest) -> None:
        self._sock = socket.create_connection((request.host, request.port), timeout=TIMEOUT_SECONDS)
        self._sock.sendall(request.to_bytes({"Connection": "close"}))

    def is_over(self) -> bool:
        """Read what has arrived. Whether the connection has ended, with or without the whole response."""
        self._sock.setblocking(False)
        try:
            while self._sock.recv(READ_BYTES):
                pass
        except BlockingIOError:
            return False
        except OSError:
            return True  # reset, for example because the worker was killed
        return True

    def reset(self) -> None:
        """Close the connection with an RST."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._sock.close()
