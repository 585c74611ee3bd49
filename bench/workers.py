"""What one and two workers carry on each shared ledger.

    python -m bench.workers [--rounds 3] [--seconds 4] [--connections 32]

Load and stand-in need the workers' cores where there are only two, so requests a second alone would count
them against the second worker. What is compared is what the workers' own processor time can carry: one does
1 / (its processor time a request) requests a second on a core of its own, two twice that, at what a request
costs when there are two. A Redis runs beside them, as it does elsewhere on a machine of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench.calls import inference_request, measure
from bench.processes import free_port, process, server, stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 20
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = parse_options()
    everywhere = os.sched_getaffinity(0)
    table = Table(title=f"/agents/inference, {EVENTS} events, {options.connections} connections")
    for heading in (
        "ledger",
        "workers",
        "requests/s",
        "CPU ms a request",
        "a core each: requests/s",
        "times",
    ):
        table.add_column(heading, justify="left" if heading == "ledger" else "right")
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stand_in(everywhere))
        for name, url in ledgers(stack, everywhere):
            alone = 0.0
            for workers in (1, 2):
                rate, cpu_seconds = carried(upstream, url, workers, options, everywhere)
                capacity = workers / cpu_seconds
                alone = alone or capacity
                table.add_row(
                    name,
                    str(workers),
                    f"{rate:,.0f}",
                    f"{cpu_seconds * 1e3:.2f}",
                    f"{capacity:,.0f}",
                    f"{capacity / alone:.2f}",
                )
                if name == "memory":
                    break
    Console(width=110).print(table)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=32)
    return parser.parse_args()


def ledgers(stack: contextlib.ExitStack, on: set[int]) -> Iterator[tuple[str, str]]:
    yield "memory", "memory://"
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "sqlite", f"sqlite:///{folder}/ledger.db"
    program = shutil.which("redis-server")
    if program is None:
        print("no redis-server here: apt install redis-server")
        return
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    stack.enter_context(process([*command, "--appendonly", "yes"], dict(os.environ), on))
    time.sleep(0.5)
    yield "redis", f"redis://127.0.0.1:{port}"


def carried(
    upstream: str, url: str, workers: int, options: argparse.Namespace, on: set[int]
) -> tuple[float, float]:
    """Requests a second, and seconds of the workers' processor time a request: medians of the rounds."""
    rates, costs = [], []
    settings = {"LEDGER_URL": url, "WORKERS": str(workers)}
    with server("wsgi:app", "gunicorn.conf.py", upstream, on, **settings) as port:
        request = inference_request(EVENTS)
        measure(port, request, 2.0, options.connections, on)  # not counted: imports, pools, first connections
        pids = workers_of(port)
        for _ in range(options.rounds):
            before = sum(map(cpu_seconds_of, pids))
            result = measure(port, request, options.seconds, options.connections, on)
            assert not result["errors"]
            costs.append((sum(map(cpu_seconds_of, pids)) - before) / result["requests"])
            rates.append(result["requests"] / result["seconds"])
    return statistics.median(rates), statistics.median(costs)


def workers_of(port: int) -> list[int]:
    """The children of the gunicorn that was told to listen on the port."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environ = (folder / "environ").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_worker = b"gunicorn" in (Path("/proc") / str(parent) / "cmdline").read_bytes()
            if f"\0PORT={port}\0".encode() in b"\0" + environ and is_worker:
                found.append(int(folder.name))
    return found


def cpu_seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
