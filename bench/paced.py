"""Many streams at once, each paced by the stub: how much longer they take than they should.

    python -m bench.paced PORT STREAMS EVENTS RATE <request

opens the streams evenly over the time that one takes, so that all are open at the end of it, and prints a
JSON object: seconds_p50, seconds_p99, errors. `{}` in the request's head stands for the number of the stream.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time
from dataclasses import dataclass

END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass
class Stream:
    """One answer on its way, and whether it has come to its end."""

    sock: socket.socket
    began: float
    tail: bytes = b""
    length: int | None = None
    """What is still to come of an answer in one piece; None for a chunked one."""
    started: bool = False
    failed: bool = False

    def feed(self, piece: bytes) -> bool:
        """Take in what has come, and say whether it was the end."""
        if not self.started:
            self.tail += piece
            head, found, piece = self.tail.partition(b"\r\n\r\n")
            if not found:
                return False
            self.started = True
            self.failed = not head.startswith(b"HTTP/1.1 200")
            _, named, rest = head.lower().partition(b"content-length:")
            self.length = int(rest.split(b"\r\n")[0]) if named else None
            self.tail = b""
        if self.length is not None:
            self.length -= len(piece)
            return self.length <= 0
        self.tail = (self.tail + piece)[-len(END_OF_CHUNKS) :]
        return self.tail == END_OF_CHUNKS


def run(port: int, request: bytes, streams: int, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    open_streams: dict[int, Stream] = {}
    took: list[float] = []
    errors = opened = 0
    start = time.perf_counter()
    while opened < streams or open_streams:
        while opened < streams and time.perf_counter() - start >= seconds * opened / streams:
            sock = connection(port, poll)
            open_streams[sock.fileno()] = Stream(sock, time.perf_counter())
            sock.sendall(request.replace(b"{}", str(opened).encode(), 1))
            opened += 1
        for number, _ in poll.poll(seconds / streams if opened < streams else 1.0):
            stream = open_streams[number]
            piece = stream.sock.recv(1 << 16)
            if not piece or stream.feed(piece):
                took.append(time.perf_counter() - stream.began)
                errors += stream.failed or not piece
                poll.unregister(number)
                open_streams.pop(number).sock.close()
    cuts = statistics.quantiles(took, n=100)
    return {"seconds_p50": cuts[49], "seconds_p99": cuts[98], "errors": errors}


def connection(port: int, poll: select.epoll) -> socket.socket:
    """A connection whose answers the poll tells of."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(sock, select.EPOLLIN)
    return sock


def main() -> None:
    port, streams, events, rate = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(run(port, sys.stdin.buffer.read(), streams, events / rate)))


if __name__ == "__main__":
    main()
