"""Measure how long the service takes from its start to its first answer, and its memory at rest.

    python -m bench.start [--rounds 7]

The time runs from the start of gunicorn to the answer of a request to `/health`. The memory is that of the
worker after it. The figures are medians. The service has the packages of production (bench/production.py).
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from dataclasses import dataclass

from bench.options import argument_parser
from bench.processes import split_cores
from bench.production import production_python
from bench.servers import proxy, stub
from bench.tables import print_heading, print_table

ROUNDS = 7


@dataclass(frozen=True)
class Start:
    """A start of the service."""

    seconds: float
    """To the first answer."""
    resident_kb: int


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"starts ({ROUNDS})")
    found = median_start(parser.parse_args().rounds)
    print_heading("Start and memory at rest")
    print_table(
        ("first answer", "worker"), [(f"{found.seconds:.2f} s", f"{found.resident_kb / 1000:.0f} MB")]
    )


def median_start(rounds: int) -> Start:
    """The medians of so many starts."""
    python = production_python()
    server_cores, load_cores = split_cores()
    with stub(load_cores) as upstream:
        starts = [measure_start(python, upstream.url, server_cores) for _ in range(rounds)]
    return Start(
        statistics.median(each.seconds for each in starts),
        round(statistics.median(each.resident_kb for each in starts)),
    )


def measure_start(python: str, upstream_url: str, cores: set[int]) -> Start:
    """Start the service once, and stop it."""
    started = time.perf_counter()
    with proxy(upstream_url, cores, python=python) as server:
        with urllib.request.urlopen(f"{server.url}/health") as response:
            response.read()
        return Start(time.perf_counter() - started, server.resident_kb())


if __name__ == "__main__":
    main()
