"""Open-loop load: send requests at even intervals, whether or not earlier ones have been answered.

    python -m bench.open_loop PORT RATE SECONDS <request

A latency counts from the time at which its request was due. Prints a JSON object: p50 and p99 in
milliseconds, requests, errors.
"""

from __future__ import annotations

import json
import select
import statistics
import sys
import time
from typing import TYPE_CHECKING

from bench.pending_response import PendingResponse, connect

if TYPE_CHECKING:
    from socket import socket


def run(port: int, request: bytes, rate: float, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    idle: list[socket] = []
    pending: dict[int, PendingResponse] = {}
    latencies_milliseconds: list[float] = []
    errors = sent = 0
    start = time.perf_counter()
    while sent < rate * seconds or pending:
        due_at = start + sent / rate
        if sent < rate * seconds and time.perf_counter() >= due_at:
            sock = idle.pop() if idle else connect(port, poll)
            pending[sock.fileno()] = PendingResponse(sock, due_at)
            sock.sendall(request)
            sent += 1
            continue
        wait_seconds = max(0.0, due_at - time.perf_counter()) if sent < rate * seconds else 1.0
        for file_descriptor, _ in poll.poll(wait_seconds):
            if file_descriptor not in pending:  # the server has closed an idle connection
                poll.unregister(file_descriptor)
                idle = [sock for sock in idle if sock.fileno() != file_descriptor]
                continue
            response = pending[file_descriptor]
            data = _received(response.sock)
            if response.feed(data) or not data:
                latencies_milliseconds.append((time.perf_counter() - response.started_at) * 1e3)
                errors += response.failed or not data
                sock = pending.pop(file_descriptor).sock
                if data:
                    idle.append(sock)
                else:
                    sock.close()
    for sock in idle:
        sock.close()
    percentiles = statistics.quantiles(latencies_milliseconds, n=100)
    return {
        "p50": percentiles[49],
        "p99": percentiles[98],
        "requests": len(latencies_milliseconds),
        "errors": errors,
    }


def _received(sock: socket) -> bytes:
    """Bytes of a response; none if the server has closed the connection."""
    try:
        return sock.recv(1 << 16)
    except ConnectionResetError:
        return b""


def main() -> None:
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(run(port, sys.stdin.buffer.read(), rate, seconds)))


if __name__ == "__main__":
    main()
