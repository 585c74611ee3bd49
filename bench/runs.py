"""Measure a whole call on each ledger, with 1 run and with 1,000,000 runs in the ledger.

    python -m bench.runs [--runs 1000000]

It runs in one process without gunicorn: it calls the application as gunicorn would, each time for a run
chosen at random, and measures the processor time. The rounds take the two ledgers in turn.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - after the patch
import dataclasses  # noqa: E402
import functools  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.http_request import INFERENCE_PATH, ROUTES  # noqa: E402
from bench.ledger_setup import add_runs, ledger_urls, run_id  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.processes import split_cores  # noqa: E402
from bench.servers import stub  # noqa: E402
from bench.service import application, call  # noqa: E402
from bench.tables import print_heading, print_table  # noqa: E402

if TYPE_CHECKING:
    from flask import Flask

ROUNDS, CALLS_PER_ROUND = 21, 200
REQUEST = ROUTES[INFERENCE_PATH]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="runs in the larger ledger (1000000)")
    options = parser.parse_args()
    server_cores, other_cores = split_cores()
    rows = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(other_cores))
        os.sched_setaffinity(0, server_cores)
        for name, url in ledger_urls(stack, other_cores):
            one, many = median_costs(upstream.url, url, (1, options.runs))
            rows.append((name, f"{one:,.0f}", f"{many:,.0f}", f"{many / one:.2f}"))
    print_heading(f"CPU µs a call by the number of runs, 1 and {options.runs:,}")
    print_table(("ledger", "1 run", f"{options.runs:,} runs", "ratio"), rows)


def median_costs(upstream_url: str, ledger_url: str, run_counts: tuple[int, ...]) -> list[float]:
    """The median processor time of a call, in microseconds, for each number of runs."""
    apps = [
        application(
            upstream_url,
            functools.partial(add_runs, count=count),
            LEDGER_URL=separate_url(ledger_url, count),
            RATE_LIMIT_PER_RUN="off",
            RATE_LIMIT_PER_IP="off",
        )
        for count in run_counts
    ]
    costs: list[list[float]] = [[] for _ in apps]
    for _ in range(ROUNDS):
        for app, count, measured in zip(apps, run_counts, costs, strict=True):
            measured.append(cpu_microseconds_per_call(app, count))
    return [statistics.median(measured) for measured in costs]


def separate_url(url: str, count: int) -> str:
    """The URL of a separate ledger for each number of runs, in the same kind of store."""
    if url.startswith("sqlite"):
        return f"{url}.{count}"
    return f"{url}/{count > 1:d}" if url.startswith("redis") else url


def cpu_microseconds_per_call(app: Flask, runs: int) -> float:
    requests = [
        dataclasses.replace(REQUEST, headers={**REQUEST.headers, "X-Run-Id": run_id(index)})
        for index in random.choices(range(runs), k=CALLS_PER_ROUND)
    ]
    started = time.process_time()
    for request in requests:
        call(app, request)
    return (time.process_time() - started) / CALLS_PER_ROUND * 1e6


if __name__ == "__main__":
    main()
