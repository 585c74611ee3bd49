"""What the relay of streams on `/v1` adds: microseconds an event at rest, and memory an open stream.

    python -m bench.relay [--events 2000] [--streams 1000]

Each event is let go by a permit, and timed from the permit to its arrival; in turn from the fake itself
and through the proxy, so that the machine's moods fall on both. The difference of the medians is what the
relay adds. Memory is the worker's resident set before and with so many streams open.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import time
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from bench.processes import PROXY_KEY, Server, cores, fake_chutes, server

CHAT = "/v1/chat/completions"
SPARE_EVENTS = 100
"""Not counted: imports, pools, first connections."""


def main() -> None:
    options = parse_options()
    server_cores, load_cores = cores()
    with ExitStack() as stack:
        upstream = stack.enter_context(fake_chutes(load_cores))
        proxy = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", upstream, server_cores))
        control = urlsplit(upstream).netloc
        show_delays(*delays(control, f"127.0.0.1:{proxy.port}", options.events))
        show_memory(*memory(proxy, options.streams))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=1000)
    return parser.parse_args()


class Stream:
    """One open stream, at the proxy or at the fake Chutes itself."""

    def __init__(self, netloc: str, directive: dict[str, object], run: str = "bench") -> None:
        self._connection = http.client.HTTPConnection(netloc, timeout=60)
        content = f"[[fake-chutes {json.dumps(directive)}]]"
        body = {
            "model": "deepseek-ai/DeepSeek-V3-0324",
            "messages": [{"role": "user", "content": content}],
            "stream": True,
        }
        headers = {
            "Authorization": f"Bearer {PROXY_KEY}",
            "X-Run-Id": run,
            "Content-Type": "application/json",
        }
        self._connection.request("POST", CHAT, json.dumps(body), headers)
        self._answer = self._connection.getresponse()
        if self._answer.status != http.client.OK:
            raise ConnectionError(f"{netloc} answered {self._answer.status}: {self._answer.read()!r}")
        self.read_event()  # the role

    def read_event(self) -> None:
        """Wait for the next event."""
        while not self._answer.readline().startswith(b"data:"):
            pass
        self._answer.readline()

    def close(self) -> None:
        self._connection.close()


def delays(direct: str, proxied: str, events: int) -> tuple[list[float], list[float]]:
    """Seconds from an event's permit to its arrival: without the proxy, and through it."""
    took: tuple[list[float], list[float]] = ([], [])
    wanted = events + SPARE_EVENTS
    with closing(http.client.HTTPConnection(direct, timeout=60)) as control, ExitStack() as stack:
        streams = [
            stack.enter_context(
                closing(Stream(netloc, {"events": wanted, "step": name, "ignore_max_tokens": True}))
            )
            for name, netloc in (("direct", direct), ("proxied", proxied))
        ]
        for _ in range(wanted):
            for stream, name, found in zip(streams, ("direct", "proxied"), took, strict=True):
                started = time.perf_counter()
                control.request("POST", f"/fake-chutes/step?gate={name}")
                stream.read_event()
                found.append(time.perf_counter() - started)
                control.getresponse().read()
    return took[0][SPARE_EVENTS:], took[1][SPARE_EVENTS:]


def memory(proxy: Server, streams: int) -> tuple[int, int, int]:
    """The worker's resident kB before and with so many streams open, and how many there are."""
    before = proxy.resident_kb()
    with ExitStack() as stack:
        for number in range(streams):
            directive: dict[str, object] = {"events": 5, "gate": "memory", "gate_at": 2}
            stream = Stream(f"127.0.0.1:{proxy.port}", directive, f"bench-{number}")
            stack.enter_context(closing(stream))
            stream.read_event()
        return before, proxy.resident_kb(), streams


def show_delays(direct: list[float], proxied: list[float]) -> None:
    table = Table(title=f"from permit to arrival, {len(direct)} events, µs")
    for heading in ("", "p50", "p90", "p99"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, seconds in (("direct", direct), ("through the proxy", proxied)):
        cuts = statistics.quantiles(seconds, n=100)
        table.add_row(name, *(f"{cuts[at] * 1e6:,.0f}" for at in (49, 89, 98)))
    added = statistics.median(proxied) - statistics.median(direct)
    Console(width=110).print(table, f"added, median against median: {added * 1e6:,.0f} µs", "")


def show_memory(before: int, after: int, streams: int) -> None:
    Console(width=110).print(
        f"{streams} open streams: the worker grew from {before:,} kB to {after:,} kB,"
        f" {(after - before) / streams:.1f} kB a stream"
    )


if __name__ == "__main__":
    main()
