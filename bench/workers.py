"""Measure the capacity of one worker and of two on each ledger that workers can share.

    python -m bench.workers [--rounds 9] [--seconds 3] [--connections 32]

On a machine with two cores, the load, the stub and Redis need some of the processor time, so the requests a
second alone would underrate the second worker. The capacity is therefore computed from the workers' own
processor time: one worker on a core of its own does 1 / (its processor time a request) requests a second, two
do twice that, at the processor time of a request with two workers. One worker shares one core with the rest,
two share two cores, so that both are disturbed alike. Their servers run side by side and are measured in
turn. The ratio is the median of the ratios of the rounds, because on a virtual machine the processor time of
a request can be half as much again a minute later.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.http_load import CONNECTIONS, measure
from bench.http_request import INFERENCE_PATH, ROUTES
from bench.options import rounds_parser
from bench.processes import process_tree
from bench.servers import Server, proxy, shared_ledger_urls, stub
from bench.tables import print_heading, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

WARMUP_SECONDS = 2.0
"""For imports, pools and connections."""

COLUMNS = (
    "ledger",
    "workers",
    "requests/s",
    "processor time a call",
    "calls a second, a core each",
    "ratio",
    "rounds",
)


@dataclass(frozen=True)
class Load:
    """How long each server is measured, and by how many connections."""

    rounds: int
    seconds: float
    """Of each round."""
    connections: int = CONNECTIONS


@dataclass
class Measured:
    """A server, and the results of its rounds."""

    workers: int
    server: Server
    rates: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Processor time of a request in each round."""

    @property
    def capacities(self) -> list[float]:
        """Requests a second with a core for each worker."""
        return [self.workers / seconds for seconds in self.cpu_seconds]


def main() -> None:
    parser = rounds_parser(__doc__, rounds=9, seconds=3.0)
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help=f"concurrent connections ({CONNECTIONS})"
    )
    options = parser.parse_args()
    load = Load(options.rounds, options.seconds, options.connections)
    all_cores = os.sched_getaffinity(0)
    rows: list[tuple[str, ...]] = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(all_cores))
        for name, urls in [("memory", ["memory://"]), *shared_ledger_urls(stack, all_cores)]:
            measured = measure_workers(upstream.url, urls, load, all_cores)
            rows += [(name, *cells) for cells in cells_of(measured)]
    print_heading(
        f"/agents/inference, 20 events, {options.connections} connections,"
        f" {options.rounds} rounds of {options.seconds:g} s in turn"
    )
    print_table(COLUMNS, rows)


def cells_of(measured: list[Measured]) -> Iterator[tuple[str, ...]]:
    """The cells of each server's row. The ratios are against the first server, which has one worker."""
    first = measured[0]
    for each in measured:
        ratios = ratios_of(first, each)
        yield (
            str(each.workers),
            f"{statistics.median(each.rates):,.0f}",
            f"{statistics.median(each.cpu_seconds) * 1e3:.2f} ms",
            f"{statistics.median(each.capacities):,.0f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}" if each is not first else "",
        )


def ratios_of(one: Measured, many: Measured) -> list[float]:
    """The capacity of the second server divided by that of the first, in each round."""
    return [more / less for less, more in zip(one.capacities, many.capacities, strict=True)]


def measure_workers(
    upstream_url: str, ledger_urls: list[str], load: Load, all_cores: set[int]
) -> list[Measured]:
    """Start a server for each ledger, the first with one worker, the next with two. Measure them in turn.

    Leaves this process on other cores than before.
    """
    request = ROUTES[INFERENCE_PATH]
    with contextlib.ExitStack() as stack:
        measured = []
        for workers, url in enumerate(ledger_urls, 1):
            server = stack.enter_context(proxy(upstream_url, all_cores, LEDGER_URL=url, WORKERS=str(workers)))
            measure(server, request, WARMUP_SECONDS, all_cores)
            measured.append(Measured(workers, server))
        for _ in range(load.rounds):
            for each in measured:
                cores = set(sorted(all_cores)[: each.workers])
                pin_process_tree(cores)
                result = measure(
                    each.server, request, load.seconds, os.sched_getaffinity(0), load.connections
                )
                assert not result.errors
                each.cpu_seconds.append(result.cpu_microseconds / 1e6)
                each.rates.append(result.rate)
    return measured


def pin_process_tree(cores: set[int]) -> None:
    """Pin this process and all its descendants, with all their threads, to the cores."""
    for pid in process_tree(os.getpid()):
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


if __name__ == "__main__":
    main()
