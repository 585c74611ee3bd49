"""Paced streams: 200 events at 50 a second each, from 250 to 4,000 of them, and what they cost.

    python -m bench.streams [--streams 250 500 1000 2000 4000]

All are opened evenly over the four seconds that one takes, so that all are open at the end of them. The
slow-down is the median time of a stream through the proxy by that of one straight from the stub, and the
99th percentile by the same. Memory is what the worker grew by at most, by stream. Every cell has a server
of its own.
"""

from __future__ import annotations

import argparse
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from bench.http_load import Ask, chat
from bench.processes import Server, allow_many_files, cores, piped, server, stub
from bench.tables import heading, show

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS, PER_SECOND = 200, 50
SAMPLE_SECONDS = 0.2

KINDS = {
    "whole answers": chat("/agents/inference", f"{EVENTS}@{PER_SECOND}"),
    "relayed": chat("/v1/chat/completions", f"{EVENTS}@{PER_SECOND}", stream=True),
}


def main() -> None:
    options = parse_options()
    allow_many_files()
    bench = Bench(*cores())
    rows = [row for number in options.streams for row in bench.rows(number)]
    heading(f"{EVENTS} events at {PER_SECOND} a second")
    columns = (
        "",
        "straight: p50 s",
        "p99 s",
        "through: p50 s",
        "p99 s",
        "slow-down p50",
        "p99",
        "kB a stream",
    )
    show((*columns, "errors"), rows)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[250, 500, 1000, 2000, 4000])
    return parser.parse_args()


@dataclass(frozen=True)
class Bench:
    """Where the servers run, and where the load."""

    server_cores: set[int]
    load_cores: set[int]

    def rows(self, number: int) -> Iterator[tuple[str, ...]]:
        with stub(self.load_cores) as upstream:
            straight = run(upstream, KINDS["relayed"], number, self.load_cores)
            for name, ask in KINDS.items():
                yield f"{number:,} {name}", *self._cells(upstream, ask, number, straight)

    def _cells(self, upstream: Server, ask: Ask, number: int, straight: dict[str, float]) -> tuple[str, ...]:
        url = f"http://127.0.0.1:{upstream.port}"
        with server("wsgi:app", "gunicorn.conf.py", url, self.server_cores) as proxy:
            run(proxy, ask, 20, self.load_cores)  # not counted: imports, pools
            rest_kb = proxy.resident_kb()
            with Peak(proxy) as peak:
                through = run(proxy, ask, number, self.load_cores)
        return (
            f"{straight['seconds_p50']:.2f}",
            f"{straight['seconds_p99']:.2f}",
            f"{through['seconds_p50']:.2f}",
            f"{through['seconds_p99']:.2f}",
            f"{through['seconds_p50'] / straight['seconds_p50']:.2f}",
            f"{through['seconds_p99'] / straight['seconds_p99']:.2f}",
            f"{(peak.kb - rest_kb) / number:.1f}",
            f"{straight['errors'] + through['errors']:.0f}",
        )


class Peak:
    """The most resident memory of a server while the context is open."""

    def __init__(self, server: Server) -> None:
        self.kb = 0
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.kb = max(self.kb, self._server.resident_kb())


def run(target: Server, ask: Ask, number: int, on: set[int]) -> dict[str, Any]:
    """Open so many streams at a server, each for a run of its own, and tell how long they took."""
    command = ["bench.paced", *map(str, (target.port, number, EVENTS, PER_SECOND))]
    found: dict[str, Any] = piped(command, ask.raw(**{"X-Run-Id": "run-{}"}), on)
    return found


if __name__ == "__main__":
    main()
