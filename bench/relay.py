"""Measure the relay of streams on `/v1`: microseconds it adds to an event, and memory of an open stream.

    python -m bench.relay [--events 2000] [--streams 1000]

The fake Chutes sends each event when it gets a permit. The delay runs from the permit to the event's arrival.
Events come straight from the fake Chutes and through the proxy in turn, so that changes of the machine affect
both alike. The difference of the medians is the time that the relay adds. The memory of a stream is the
worker's growth while so many streams are open, divided by their number.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from bench.http_request import AUTHORIZATION, COMPLETIONS_PATH, MODEL
from bench.options import argument_parser
from bench.processes import split_cores
from bench.servers import Server, fake_chutes, proxy
from bench.tables import print_heading, print_table
from tests.process.fake_chutes_control import directive

WARMUP_EVENTS = 100
"""For imports, pools and first connections."""

TIMEOUT_SECONDS = 60


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--events", type=int, default=2000, help="events to time (2000)")
    parser.add_argument("--streams", type=int, default=1000, help="streams to open at once (1000)")
    options = parser.parse_args()
    server_cores, load_cores = split_cores()
    with ExitStack() as stack:
        upstream_url = stack.enter_context(fake_chutes(load_cores))
        server = stack.enter_context(proxy(upstream_url, server_cores))
        print_delays(
            *measure_delays(urlsplit(upstream_url).netloc, urlsplit(server.url).netloc, options.events)
        )
        print_memory(*measure_memory(server, options.streams), options.streams)


class Stream:
    """An open stream, from the proxy or straight from the fake Chutes."""

    def __init__(self, address: str, prompt: str, run_id: str = "bench") -> None:
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
        headers = {**AUTHORIZATION, "X-Run-Id": run_id, "Content-Type": "application/json"}
        self._connection.request("POST", COMPLETIONS_PATH, json.dumps(body), headers)
        self._response = self._connection.getresponse()
        if self._response.status != http.client.OK:
            raise ConnectionError(f"{address} answered {self._response.status}: {self._response.read()!r}")
        self.read_event()  # the role

    def read_event(self) -> None:
        """Wait for the next event."""
        while not self._response.readline().startswith(b"data:"):
            pass
        self._response.readline()

    def close(self) -> None:
        self._connection.close()


def measure_delays(upstream: str, proxied: str, events: int) -> tuple[list[float], list[float]]:
    """Seconds from each event's permit to its arrival: straight, and through the proxy."""
    delays: dict[str, list[float]] = {"straight": [], "through": []}
    all_events = WARMUP_EVENTS + events
    with (
        closing(http.client.HTTPConnection(upstream, timeout=TIMEOUT_SECONDS)) as control,
        ExitStack() as stack,
    ):
        streams = {
            gate: stack.enter_context(
                closing(Stream(address, directive(events=all_events, step=gate, ignore_max_tokens=True)))
            )
            for gate, address in (("straight", upstream), ("through", proxied))
        }
        for _ in range(all_events):
            for gate, stream in streams.items():
                started = time.perf_counter()
                control.request("POST", f"/fake-chutes/step?gate={gate}")
                stream.read_event()
                delays[gate].append(time.perf_counter() - started)
                control.getresponse().read()
    return delays["straight"][WARMUP_EVENTS:], delays["through"][WARMUP_EVENTS:]


def measure_memory(server: Server, streams: int) -> tuple[int, int]:
    """The worker's resident kB before so many streams are opened, and while they are open."""
    before_kb = server.resident_kb()
    prompt = directive(events=5, gate="memory", gate_at=2)
    with ExitStack() as stack:
        for number in range(streams):
            stream = Stream(urlsplit(server.url).netloc, prompt, f"bench-{number}")
            stack.enter_context(closing(stream))
            stream.read_event()
        return before_kb, server.resident_kb()


def print_delays(straight: list[float], through: list[float]) -> None:
    print_heading(f"Delay of an event, from its permit to its arrival, µs ({len(straight)} events)")
    rows = []
    for name, seconds in (("straight", straight), ("through the proxy", through)):
        percentiles = statistics.quantiles(seconds, n=100)
        rows.append((name, *(f"{percentiles[at] * 1e6:,.0f}" for at in (49, 89, 98))))
    print_table(("", "p50", "p90", "p99"), rows)
    added = statistics.median(through) - statistics.median(straight)
    print(f"Added, difference of the medians: {added * 1e6:,.0f} µs\n")


def print_memory(before_kb: int, open_kb: int, streams: int) -> None:
    print(
        f"{streams} open streams: the worker grew from {before_kb:,} kB to {open_kb:,} kB,"
        f" {(open_kb - before_kb) / streams:.1f} kB a stream"
    )


if __name__ == "__main__":
    main()
