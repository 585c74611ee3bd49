"""What one and two workers carry on each shared ledger.

    python -m bench.workers [--rounds 9] [--seconds 3] [--connections 32]

Where there are only two cores, load, fake and Redis need some of them, so requests a second alone would
count them against the second worker. What is compared is what the workers' own processor time can carry: one
does 1 / (its processor time a request) requests a second on a core of its own, two twice that, at what a
request costs when there are two. One worker shares one core with the rest, two share two cores, so that both
are disturbed alike. Their servers run side by side and are measured in turn, and the times printed are the
median of the rounds' own: on a virtual machine a request may cost half as much again a minute later.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench.http_load import chat, measure
from bench.processes import Server, family_of, server, shared_ledgers, stub

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 20


@dataclass
class Side:
    """A server, and what its rounds showed."""

    workers: int
    server: Server
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    @property
    def capacities(self) -> list[float]:
        return [self.workers / cost for cost in self.costs]


def main() -> None:
    options = parse_options()
    everywhere = os.sched_getaffinity(0)
    table = Table(
        title=f"/agents/inference, {EVENTS} events, {options.connections} connections,"
        f" {options.rounds} rounds of {options.seconds:g} s in turn"
    )
    for heading in (
        "ledger",
        "workers",
        "requests/s",
        "CPU ms a request",
        "a core each: requests/s",
        "times",
        "rounds",
    ):
        table.add_column(heading, justify="left" if heading == "ledger" else "right")
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(everywhere))
        for name, urls in [("memory", ["memory://"]), *shared_ledgers(stack, everywhere)]:
            for row in rows_of(measured(f"http://127.0.0.1:{upstream.port}", urls, options, everywhere)):
                table.add_row(name, *row)
    Console(width=120).print(table)


def rows_of(sides: list[Side]) -> Iterator[tuple[str, ...]]:
    for side in sides:
        times = [many / one for one, many in zip(sides[0].capacities, side.capacities, strict=True)]
        yield (
            str(side.workers),
            f"{statistics.median(side.rates):,.0f}",
            f"{statistics.median(side.costs) * 1e3:.2f}",
            f"{statistics.median(side.capacities):,.0f}",
            f"{statistics.median(times):.2f}",
            f"{min(times):.2f} to {max(times):.2f}" if side is not sides[0] else "",
        )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    return parser.parse_args()


def measured(upstream: str, urls: list[str], options: argparse.Namespace, on: set[int]) -> list[Side]:
    """A server of one worker, of two, and so on, and the rounds of each."""
    ask = chat("/agents/inference", EVENTS)
    with contextlib.ExitStack() as stack:
        sides = []
        for workers, url in enumerate(urls, 1):
            settings = {"LEDGER_URL": url, "WORKERS": str(workers)}
            started = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", upstream, on, **settings))
            measure(started, ask, 2.0, on)  # not counted: imports, pools, connections
            sides.append(Side(workers, started))
        for _ in range(options.rounds):
            for side in sides:
                share(set(sorted(on)[: side.workers]))
                found = measure(
                    side.server, ask, options.seconds, os.sched_getaffinity(0), options.connections
                )
                assert not found.errors
                side.costs.append(found.cpu_microseconds / 1e6)
                side.rates.append(found.rate)
    return sides


def share(cores: set[int]) -> None:
    """Put this process and every one under it onto the cores, with all their threads."""
    for pid in family_of(os.getpid()):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)


if __name__ == "__main__":
    main()
