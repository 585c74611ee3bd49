"""Measure 250 to 4,000 concurrent streams, each of 200 events at 50 a second.

    python -m bench.streams [--streams 250 500 1000 2000 4000]

The streams are opened evenly over the four seconds that one takes, so that all are open when the last one
starts. The slow-down is the time of a stream through the proxy divided by the time straight from the stub,
both at the median or both at the 99th percentile. The memory of a stream is the worker's largest growth
divided by the number of streams. Each row has a proxy of its own.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from bench.http_request import COMPLETIONS_PATH, INFERENCE_PATH, Request, chat
from bench.options import argument_parser
from bench.processes import raise_file_limit, run_client, split_cores
from bench.servers import Server, proxy, stub
from bench.tables import print_heading, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS, EVENTS_PER_SECOND = 200, 50
WARMUP_STREAMS = 20
"""For imports and pools."""

SAMPLE_SECONDS = 0.2
STREAM_COUNTS = [250, 500, 1000, 2000, 4000]

REQUESTS = {
    "whole answers": chat(INFERENCE_PATH, f"{EVENTS}@{EVENTS_PER_SECOND}"),
    "relayed": chat(COMPLETIONS_PATH, f"{EVENTS}@{EVENTS_PER_SECOND}", stream=True),
}

COLUMNS = (
    "",
    "straight: p50 s",
    "p99 s",
    "through: p50 s",
    "p99 s",
    "slow-down p50",
    "p99",
    "kB a stream",
    "errors",
)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--streams", type=int, nargs="+", default=STREAM_COUNTS, help="numbers of concurrent streams"
    )
    options = parser.parse_args()
    raise_file_limit()
    benchmark = Benchmark(*split_cores())
    rows = [
        (f"{streams:,} {name}", *figures.cells())
        for streams in options.streams
        for name, figures in benchmark.figures(streams)
    ]
    print_heading(f"{EVENTS} events at {EVENTS_PER_SECOND} a second")
    print_table(COLUMNS, rows)


@dataclass(frozen=True)
class Figures:
    """The durations of streams straight from the stub and through the proxy, and the memory they took."""

    straight: dict[str, float]
    through: dict[str, float]
    kb_a_stream: float

    def slow_down(self, percentile: str) -> float:
        """The time through the proxy divided by the time straight from the stub, at p50 or p99."""
        return self.through[f"seconds_{percentile}"] / self.straight[f"seconds_{percentile}"]

    @property
    def errors(self) -> float:
        return self.straight["errors"] + self.through["errors"]

    def cells(self) -> tuple[str, ...]:
        """The cells of a row."""
        return (
            *(
                f"{times[name]:.2f}"
                for times in (self.straight, self.through)
                for name in ("seconds_p50", "seconds_p99")
            ),
            *(f"{self.slow_down(percentile):.2f}" for percentile in ("p50", "p99")),
            f"{self.kb_a_stream:.1f}",
            f"{self.errors:.0f}",
        )


@dataclass(frozen=True)
class Benchmark:
    """The measurement on two sets of cores."""

    server_cores: set[int]
    load_cores: set[int]

    def figures(self, streams: int) -> Iterator[tuple[str, Figures]]:
        """The figures of so many streams, for each kind of request, with its name."""
        with stub(self.load_cores) as upstream:
            straight = paced_streams(upstream, REQUESTS["relayed"], streams, self.load_cores)
            for name, request in REQUESTS.items():
                yield name, self._figures(upstream, request, streams, straight)

    def _figures(
        self, upstream: Server, request: Request, streams: int, straight: dict[str, float]
    ) -> Figures:
        with proxy(upstream.url, self.server_cores) as server:
            paced_streams(server, request, WARMUP_STREAMS, self.load_cores)
            idle_kb = server.resident_kb()
            with PeakMemory(server) as peak:
                through = paced_streams(server, request, streams, self.load_cores)
        return Figures(straight, through, (peak.kb - idle_kb) / streams)


class PeakMemory:
    """The largest resident memory of a server while the context is open."""

    def __init__(self, server: Server) -> None:
        self.kb = 0
        self._server = server
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._closed.wait(SAMPLE_SECONDS):
            self.kb = max(self.kb, self._server.resident_kb())


def paced_streams(server: Server, request: Request, streams: int, cores: set[int]) -> dict[str, float]:
    """The durations of so many streams, each of a run of its own."""
    arguments = ["bench.paced", *map(str, (server.port, streams, EVENTS, EVENTS_PER_SECOND))]
    result: dict[str, Any] = run_client(arguments, request.to_bytes({"X-Run-Id": "run-{}"}), cores)
    return result


if __name__ == "__main__":
    main()
