"""The clients of the soak: good calls, early leavers, failures of the upstream, and bad requests."""

from __future__ import annotations

import json
import random
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gevent

from bench.http_request import AUTHORIZATION, COMPLETIONS_PATH, EMBEDDING_PATH, INFERENCE_PATH, Request
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOOD, LEAVING, FAILING = "soak/good", "soak/leaving", "soak/failing"
"""Models, one for each kind of client, so that the upstream bills each kind apart."""

EMBEDDING = "soak/embedding"
CALLS_PER_RUN = 20
TIMEOUT_SECONDS = 30.0
TICK_SECONDS = 0.02
FAULTS = ("error_line", "cut", "reset_mid", "malformed", "html", "at_capacity", "exhausted", "close", "gzip")
BAD_BODIES = (
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"run_id": 5}',
    b'{"messages": "no"}',
    b"[" * 10_000,
    b'{"run_id": "x", "messages": [{"role": "user", "content": "\\ud800"}]}',
)


@dataclass
class Tally:
    """How many requests ended in which way."""

    answered: int = 0
    refused: int = 0
    hung_up: int = 0
    unexpected: list[str] = field(default_factory=list)
    """Statuses and connection errors that the client did not expect."""


class Clients:
    """Makes requests of all kinds, each on a connection of its own."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.tally = Tally()
        self._calls = 0
        self._mix: list[tuple[int, Callable[[], None]]] = [
            (45, self._infer),
            (15, self._stream),
            (10, self._complete),
            (5, self._embed),
            (10, self._leave_response),
            (8, self._meet_fault),
            (4, self._send_bad_body),
            (3, self._leave_request),
        ]

    def make_request(self) -> None:
        """Make one request of a random kind."""
        weights = [weight for weight, _ in self._mix]
        (kind,) = self._random.choices([make for _, make in self._mix], weights)
        try:
            kind()
        except OSError as error:
            self.tally.unexpected.append(f"{kind.__name__}: {error!r}")

    def make_good_call(self) -> None:
        """Make one call that must go well."""
        self._infer()

    def make_requests_at(self, rate: float, seconds: float) -> Iterator[None]:
        """Start requests at even intervals, each in a greenlet of its own. Yields once a second."""
        start = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - start) < seconds:
            while sent < elapsed * rate:
                gevent.spawn(self.make_request)
                sent += 1
            if int(elapsed) != int(elapsed - TICK_SECONDS):
                yield
            gevent.sleep(TICK_SECONDS)

    def _infer(self) -> None:
        self._expect_success(INFERENCE_PATH, self._chat(GOOD))

    def _stream(self) -> None:
        self._expect_success(COMPLETIONS_PATH, self._chat(GOOD, stream=True))

    def _complete(self) -> None:
        self._expect_success(COMPLETIONS_PATH, self._chat(GOOD))

    def _embed(self) -> None:
        self._expect_success(EMBEDDING_PATH, {"run_id": EMBEDDING, "input": "some text"})

    def _expect_success(self, path: str, body: object) -> None:
        status = self._exchange(path, json.dumps(body).encode())
        if status == 200:
            self.tally.answered += 1
        else:
            self.tally.unexpected.append(f"{path}: {status}")

    def _meet_fault(self) -> None:
        fault = self._random.choice(FAULTS)
        body = json.dumps(self._chat(FAILING, directive(fault=fault))).encode()
        self._expect_refusal(500, fault, body)

    def _send_bad_body(self) -> None:
        self._expect_refusal(422, "bad body", self._random.choice(BAD_BODIES))

    def _expect_refusal(self, expected_status: int, label: str, body: bytes) -> None:
        status = self._exchange(INFERENCE_PATH, body)
        if status == expected_status:
            self.tally.refused += 1
        else:
            self.tally.unexpected.append(f"{label}: {status}")

    def _leave_response(self) -> None:
        """Close the connection at a random moment of the response."""
        prompt = directive(pause_ms=self._random.choice([0, 5, 20]), events=40)
        path = self._random.choice([INFERENCE_PATH, COMPLETIONS_PATH])
        with self._connection() as sock:
            sock.sendall(_request_bytes(path, json.dumps(self._chat(LEAVING, prompt, stream=True)).encode()))
            gevent.sleep(self._random.choice([0.0, 0.01, 0.05, 0.2]))
        self.tally.hung_up += 1

    def _leave_request(self) -> None:
        """Close the connection in the middle of the request's body."""
        request = _request_bytes(INFERENCE_PATH, b" " * 2_000)
        with self._connection() as sock:
            sock.sendall(request[:-1_000])
        self.tally.hung_up += 1

    def _chat(self, model: str, prompt: str = "say something", **fields: object) -> dict[str, object]:
        """A chat of the current run of this model: each run makes some calls, then the next one begins."""
        self._calls += 1
        run_id = f"{model}-{self._calls // CALLS_PER_RUN}"
        return {"run_id": run_id, "model": model, "messages": [{"role": "user", "content": prompt}], **fields}

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_SECONDS)

    def _exchange(self, path: str, body: bytes) -> int:
        """Send a request, read the whole response, and return its status; 0 if there was none."""
        with self._connection() as sock:
            sock.sendall(_request_bytes(path, body))
            first = sock.recv(1 << 16)
            while sock.recv(1 << 16):
                pass
        return int(first.split(b" ", 2)[1]) if first else 0


def _request_bytes(path: str, body: bytes) -> bytes:
    return Request(path, body, AUTHORIZATION).to_bytes({"Connection": "close"})
