"""A raw HTTP client for the tests of the fake Chutes."""

from __future__ import annotations

import json
import math
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

NANOUSD_PER_MTOK = 270_000_000
MODEL = "deepseek-ai/DeepSeek-V3-0324"
KEY = {"Authorization": "Bearer sk-test"}
QUIET_SECONDS = 0.15
PATIENCE_SECONDS = 10


@dataclass
class Seen:
    """The received bytes, and the end of the connection: clean, cut, reset or open (no end in time)."""

    end: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def events(self) -> list[dict[str, Any]]:
        lines = [line for line in self.body.replace(b"data:{", b"data: {").splitlines() if line]
        found = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: {")]
        return [event for event in map(_json_or_none, found) if event]

    def words(self) -> list[str]:
        deltas = [each["choices"][0]["delta"] for each in self.events() if each.get("choices")]
        return [delta["content"] for delta in deltas if delta.get("content")]

    def finish(self) -> str | None:
        reasons = [each["choices"][0]["finish_reason"] for each in self.events() if each.get("choices")]
        return next((reason for reason in reasons if reason), None)

    def usage(self) -> dict[str, Any]:
        return next((each["usage"] for each in reversed(self.events()) if each.get("choices") == []), {})

    def done(self) -> bool:
        return b"[DONE]" in self.body

    def shape(self) -> tuple[int, bool, bool, bool, str]:
        return len(self.words()), self.finish() is not None, bool(self.usage()), self.done(), self.end


def _json_or_none(data: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError:
        return None
    return found


def ask(**fields: object) -> dict[str, Any]:
    asked: dict[str, object] = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 100,
        "stream_options": {"include_usage": True},
    }
    asked["messages"] = [{"role": "user", "content": fields.pop("content", "hello")}]
    return {name: value for name, value in {**asked, **fields}.items() if value is not None}


def with_fault(name: str, **more: object) -> str:
    return directive(fault=name, **more)


@contextmanager
def sending(
    chutes: Upstream, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> Iterator[socket.socket]:
    url = urlsplit(chutes.url)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: chutes\r\nAuthorization: Bearer sk-test\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    assert url.hostname
    assert url.port
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(head.encode() + data)
        yield sock


def receive(sock: socket.socket) -> tuple[bytes, str]:
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except TimeoutError:
        return received, "open"
    except ConnectionResetError:
        return received, "reset"
    return received, "closed"


def look(
    chutes: Upstream, body: dict[str, Any], path: str = "/v1/chat/completions", *, quiet: bool = False
) -> Seen:
    with sending(chutes, body, path) as sock:
        if quiet:
            sock.settimeout(QUIET_SECONDS)
        return understand(*receive(sock))


def understand(received: bytes, end: str) -> Seen:
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head:
        return Seen("cut" if end == "closed" else end)
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if "content-length" in headers:
        pieces, complete = [rest], len(rest) == int(headers["content-length"])
    else:
        pieces, complete = unchunk(rest)
    if end == "closed":
        end = "clean" if complete else "cut"
    return Seen(end, int(status.split()[1]), headers, pieces)


def unchunk(rest: bytes) -> tuple[list[bytes], bool]:
    pieces: list[bytes] = []
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return pieces, rest == b"\r\n"
        pieces.append(rest[:size])
        assert rest[size : size + 2] == b"\r\n"
        rest = rest[size + 2 :]
    return pieces, False


def post(chutes: Upstream, body: dict[str, Any], path: str = "/v1/chat/completions") -> requests.Response:
    return requests.post(f"{chutes.url}{path}", json=body, headers=KEY, timeout=PATIENCE_SECONDS)


def cost(tokens: int) -> int:
    return math.ceil(tokens * NANOUSD_PER_MTOK / 1_000_000)


def estimated_prompt_tokens(content: str) -> int:
    return math.ceil(len(f"user{content}".encode()) / 4) + 4
