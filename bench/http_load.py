"""Closed-loop load by wrk: so many connections, each sending its next request when it is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import PROXY_KEY, Server

CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("wrk.lua")
MODEL = "deepseek-ai/DeepSeek-V3-0324"
OURS = {"Authorization": f"Bearer {PROXY_KEY}", "X-Run-Id": "bench"}


@dataclass(frozen=True)
class Ask:
    """One request, as it is sent again and again."""

    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: OURS)

    def raw(self, **headers: str) -> bytes:
        """As it goes over a connection; `headers` instead of its own of that name."""
        usual = {"Host": "bench", "Content-Type": "application/json", "Content-Length": str(len(self.body))}
        fields = "".join(f"{name}: {value}\r\n" for name, value in (usual | self.headers | headers).items())
        return f"POST {self.path} HTTP/1.1\r\n{fields}\r\n".encode() + self.body


@dataclass(frozen=True)
class Round:
    """What one round has shown."""

    rate: float
    """Requests a second."""
    p50_milliseconds: float
    p99_milliseconds: float
    errors: int
    cpu_microseconds: float
    """Of the server's processes, for each request."""
    resident_kb: int


def chat(
    path: str,
    events: object = 20,
    *,
    messages: int = 1,
    stream: bool = False,
    headers: dict[str, str] = OURS,
) -> Ask:
    """A chat: of one short message, or of several of 1,500 characters. The stub reads how many events."""
    long = [{"role": "user", "content": ("lorem ipsum " * 125)[:1500]}] * (messages - 1)
    last = {"role": "user", "content": f"Say something. events={events}"}
    body: dict[str, object] = {"model": MODEL, "messages": [*long, last]}
    if path.startswith("/v1"):
        body["stream"] = stream
    return Ask(path, json.dumps(body).encode(), headers)


def embedding() -> Ask:
    return Ask("/agents/embedding", json.dumps({"input": "some text"}).encode())


def measure(server: Server, ask: Ask, seconds: float, on: set[int], connections: int = CONNECTIONS) -> Round:
    """One round of wrk on the cores."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(ask.body)
        body.flush()
        headers = {"Content-Type": "application/json", **ask.headers}
        command = [wrk(), "--threads", "1", "--connections", str(connections), "--timeout", "60"]
        command += ["--duration", str(max(1, round(seconds))), "--script", str(SCRIPT)]
        command += [f"http://127.0.0.1:{server.port}{ask.path}", "--", body.name]
        command += [f"{name}: {value}" for name, value in headers.items()]
        before = server.cpu_seconds()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            os.sched_setaffinity(running.pid, on)
            output, _ = running.communicate()
    found = json.loads(output.splitlines()[-1])
    requests = max(1, found["requests"])
    return Round(
        found["requests"] / found["seconds"],
        found["p50"],
        found["p99"],
        found["errors"],
        (server.cpu_seconds() - before) / requests * 1e6,
        server.resident_kb(),
    )


def wrk() -> str:
    """Where wrk is."""
    return shutil.which("wrk") or sys.exit("wrk is needed: apt install wrk")
