"""Measure the duration of many concurrent streams whose events the stub sends at a fixed rate.

    python -m bench.paced PORT STREAMS EVENTS RATE <request

Opens the streams evenly over the duration of one, so that all are open when the last one starts. Prints a
JSON object: seconds_p50, seconds_p99, errors. `{}` in the request's head stands for the number of the stream.
"""

from __future__ import annotations

import json
import select
import statistics
import sys
import time

from bench.pending_response import PendingResponse, connect


def run(port: int, request: bytes, streams: int, stream_seconds: float) -> dict[str, float]:
    poll = select.epoll()
    pending: dict[int, PendingResponse] = {}
    durations_seconds: list[float] = []
    errors = opened = 0
    start = time.perf_counter()
    while opened < streams or pending:
        while opened < streams and time.perf_counter() - start >= stream_seconds * opened / streams:
            sock = connect(port, poll)
            pending[sock.fileno()] = PendingResponse(sock, time.perf_counter())
            sock.sendall(request.replace(b"{}", str(opened).encode(), 1))
            opened += 1
        for file_descriptor, _ in poll.poll(stream_seconds / streams if opened < streams else 1.0):
            response = pending[file_descriptor]
            data = response.sock.recv(1 << 16)
            if not data or response.feed(data):
                durations_seconds.append(time.perf_counter() - response.started_at)
                errors += response.failed or not data
                poll.unregister(file_descriptor)
                pending.pop(file_descriptor).sock.close()
    percentiles = statistics.quantiles(durations_seconds, n=100)
    return {"seconds_p50": percentiles[49], "seconds_p99": percentiles[98], "errors": errors}


def main() -> None:
    port, streams, events, rate = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(run(port, sys.stdin.buffer.read(), streams, events / rate)))


if __name__ == "__main__":
    main()
