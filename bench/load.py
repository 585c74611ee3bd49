"""A closed-loop load generator: so many connections, each sending its next request when answered.

    python bench/load.py PORT SECONDS CONNECTIONS <request

reads one raw HTTP request from standard input and prints a JSON object: requests, seconds,
p50_milliseconds, p99_milliseconds, errors (answers other than 200, and broken connections).
"""

from __future__ import annotations

import json
import sys
import time

import gevent
from gevent import socket


class Load:
    """What all connections of one run share."""

    def __init__(self, port: int, request: bytes, end: float) -> None:
        self.port = port
        self.request = request
        self.end = end
        self.latencies: list[float] = []
        self.errors = 0

    def connection(self) -> None:
        """Send and receive on one connection until the time is over."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (started := time.perf_counter()) < self.end:
            sock.sendall(self.request)
            good = read_answer(sock)
            self.latencies.append(time.perf_counter() - started)
            self.errors += not good
        sock.close()


def read_answer(sock: socket.socket) -> bool:
    """Read one answer with a Content-Length, and tell whether it is a 200."""
    received = b""
    while (head_end := received.find(b"\r\n\r\n")) < 0:
        received += _receive(sock)
    head = received[:head_end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    missing = length - (len(received) - head_end - 4)
    while missing > 0:
        missing -= len(_receive(sock))
    return head.startswith(b"http/1.1 200")


def _receive(sock: socket.socket) -> bytes:
    chunk: bytes = sock.recv(65536)
    if not chunk:
        raise ConnectionError("the server closed the connection")
    return chunk


def main() -> None:
    port, seconds, connections = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    started = time.perf_counter()
    load = Load(port, sys.stdin.buffer.read(), started + seconds)
    greenlets = [gevent.spawn(load.connection) for _ in range(connections)]
    gevent.joinall(greenlets)
    broken = sum(greenlet.exception is not None for greenlet in greenlets)
    took = time.perf_counter() - started
    ordered = sorted(load.latencies)
    print(
        json.dumps(
            {
                "requests": len(ordered),
                "seconds": took,
                "p50_milliseconds": ordered[len(ordered) // 2] * 1000,
                "p99_milliseconds": ordered[len(ordered) * 99 // 100] * 1000,
                "errors": load.errors + broken,
            }
        )
    )


if __name__ == "__main__":
    main()
