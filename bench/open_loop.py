"""Open-loop load: requests at even times, whether or not those before them have been answered.

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

from bench.paced import Stream, connection

if TYPE_CHECKING:
    from socket import socket


def run(port: int, request: bytes, rate: float, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    idle: list[socket] = []
    busy: dict[int, Stream] = {}
    took: list[float] = []
    errors = sent = 0
    start = time.perf_counter()
    while sent < rate * seconds or busy:
        due = start + sent / rate
        if sent < rate * seconds and time.perf_counter() >= due:
            sock = idle.pop() if idle else connection(port, poll)
            busy[sock.fileno()] = Stream(sock, due)
            sock.sendall(request)
            sent += 1
            continue
        wait = max(0.0, due - time.perf_counter()) if sent < rate * seconds else 1.0
        for number, _ in poll.poll(wait):
            stream = busy[number]
            piece = stream.sock.recv(1 << 16)
            if not piece:
                sys.exit("the server closed a connection")
            if stream.feed(piece):
                took.append((time.perf_counter() - stream.began) * 1e3)
                errors += stream.failed
                idle.append(busy.pop(number).sock)
    for sock in idle:
        sock.close()
    cuts = statistics.quantiles(took, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "requests": len(took), "errors": errors}


def main() -> None:
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(run(port, sys.stdin.buffer.read(), rate, seconds)))


if __name__ == "__main__":
    main()
