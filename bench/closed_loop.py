"""Closed-loop load: each connection sends a request, reads its response, and sends the next one.

    python -m bench.closed_loop PORT CONNECTIONS SECONDS <request

Prints a JSON object: the number of responses by status. A closed connection is opened again.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections import Counter

TIMEOUT_SECONDS = 30.0


def run(port: int, request: bytes, connections: int, seconds: float) -> Counter[str]:
    """Send the load, and count the responses by status."""
    statuses: Counter[str] = Counter()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_load, args=(port, request, end, statuses)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def _load(port: int, request: bytes, end: float, statuses: Counter[str]) -> None:
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as sock:
                while time.monotonic() < end:
                    sock.settimeout(max(0.1, end - time.monotonic()))
                    status = _exchange(sock, request)
                    statuses[status] += 1
                    if not status.isdigit():
                        break
        except OSError:
            statuses["no answer"] += 1


def _exchange(sock: socket.socket, request: bytes) -> str:
    """Send a request and read the whole response."""
    with contextlib.suppress(OSError):  # the server refused the body, and may have answered
        sock.sendall(request)
    with sock.makefile("rb") as response:
        status = response.readline().split()
        length = None
        while line := response.readline().strip():
            name, _, value = line.lower().partition(b":")
            length = int(value) if name == b"content-length" else length
        if not status:
            return "closed"
        if length is None:  # in chunks
            while size := int(response.readline() or b"0", 16):
                response.read(size + 2)
            response.readline()
        else:
            response.read(length)
    return status[1].decode()


def main() -> None:
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(run(port, sys.stdin.buffer.read(), connections, seconds)))


if __name__ == "__main__":
    main()
