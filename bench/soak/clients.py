"""The clients of a soak: good ones, some that leave, some whose upstream fails, some that send rubbish."""

from __future__ import annotations

import json
import random
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gevent

from bench.servers import PROXY_KEY
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOOD, LEAVING, FAILING = "soak/good", "soak/leaving", "soak/failing"
"""Models, one for each kind of client: so the upstream's bills can be told apart."""

CALLS_PER_RUN = 20
TIMEOUT_SECONDS = 30.0
FAULTS = ("error_line", "cut", "reset_mid", "malformed", "html", "at_capacity", "exhausted", "close", "gzip")
RUBBISH = (
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
    """What the clients have met."""

    answered: int = 0
    refused: int = 0
    left: int = 0
    failed: list[str] = field(default_factory=list)
    """What no client should meet: an answer of another kind than was to be expected."""


class Clients:
    """Makes requests of all kinds on one server, each in a greenlet of its own."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.tally = Tally()
        self._calls = 0
        self._plan: list[tuple[int, Callable[[], None]]] = [
            (45, self._infer),
            (15, self._stream),
            (10, self._whole),
            (5, self._embed),
            (10, self._leave),
            (8, self._meet_a_fault),
            (4, self._send_rubbish),
            (3, self._leave_amid_the_body),
        ]

    def one(self) -> None:
        """One request, of a kind that chance picks."""
        weights = [weight for weight, _ in self._plan]
        (kind,) = self._random.choices([make for _, make in self._plan], weights)
        try:
            kind()
        except OSError as error:
            self.tally.failed.append(f"{kind.__name__}: {error!r}")

    def at(self, rate: float, seconds: float) -> Iterator[None]:
        """Requests at even times; yields once a second."""
        start = time.monotonic()
        sent = 0
        while (now := time.monotonic() - start) < seconds:
            while sent < now * rate:
                gevent.spawn(self.one)
                sent += 1
            if int(now) != int(now - 0.02):
                yield
            gevent.sleep(0.02)

    def ask_once(self) -> None:
        """One good call, which counts as all others do."""
        self._infer()

    def _run(self, kind: str) -> str:
        self._calls += 1
        return f"{kind}-{self._calls // CALLS_PER_RUN}"

    def _infer(self) -> None:
        self._expect_answer("/agents/inference", self._chat(GOOD, run_id=self._run(GOOD)))

    def _stream(self) -> None:
        self._expect_answer("/v1/chat/completions", self._chat(GOOD, run_id=self._run(GOOD), stream=True))

    def _whole(self) -> None:
        self._expect_answer("/v1/chat/completions", self._chat(GOOD, run_id=self._run(GOOD)))

    def _embed(self) -> None:
        self._expect_answer("/agents/embedding", {"run_id": "soak/embedding", "input": "some text"})

    def _expect_answer(self, path: str, body: object) -> None:
        status = self._exchange(_request(path, json.dumps(body).encode()))
        if status == 200:
            self.tally.answered += 1
        else:
            self.tally.failed.append(f"{path}: {status}")

    def _leave(self) -> None:
        pause = self._random.choice([0, 5, 20])
        body = self._chat(LEAVING, directive(pause_ms=pause, events=40))
        path = self._random.choice(["/agents/inference", "/v1/chat/completions"])
        with self._connection() as sock:
            sock.sendall(
                _request(path, json.dumps({**body, "run_id": self._run(LEAVING), "stream": True}).encode())
            )
            gevent.sleep(self._random.choice([0.0, 0.01, 0.05, 0.2]))
        self.tally.left += 1

    def _meet_a_fault(self) -> None:
        fault = self._random.choice(FAULTS)
        body = self._chat(FAILING, directive(fault=fault), run_id=self._run(FAILING))
        status = self._exchange(_request("/agents/inference", json.dumps(body).encode()))
        if status == 500:
            self.tally.refused += 1
        else:
            self.tally.failed.append(f"{fault}: {status}")

    def _send_rubbish(self) -> None:
        status = self._exchange(_request("/agents/inference", self._random.choice(RUBBISH)))
        if status == 422:
            self.tally.refused += 1
        else:
            self.tally.failed.append(f"rubbish: {status}")

    def _leave_amid_the_body(self) -> None:
        whole = _request("/agents/inference", b" " * 2_000)
        with self._connection() as sock:
            sock.sendall(whole[:-1_000])
        self.tally.left += 1

    @staticmethod
    def _chat(model: str, prompt: str = "say something", **fields: object) -> dict[str, object]:
        return {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_SECONDS)

    def _exchange(self, request: bytes) -> int:
        """Send it, read all that comes, and return the status; 0 if nothing came."""
        with self._connection() as sock:
            sock.sendall(request)
            first = sock.recv(1 << 16)
            while sock.recv(1 << 16):
                pass
        return int(first.split(b" ", 2)[1]) if first else 0


def _request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\nAuthorization: Bearer {PROXY_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
