"""What a whole call costs by the number of runs that the ledger knows: 1 and 1,000,000, for each ledger.

    python -m bench.runs [--runs 1000000]

In one process, without gunicorn: the application is called as gunicorn would call it, with a run chosen
anew each time, and its processor time is measured, for the two numbers in turn.
"""

from __future__ import annotations

# The first thing of all, as in gunicorn.conf.py.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import contextlib  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from bench.http_load import chat  # noqa: E402
from bench.processes import cores, stub  # noqa: E402
from bench.service import application, call  # noqa: E402
from bench.stores import fill, name_of, stores  # noqa: E402
from bench.tables import heading, show  # noqa: E402

if TYPE_CHECKING:
    from flask import Flask

ROUNDS, CALLS = 21, 200
ASK = chat("/agents/inference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    server_cores, other_cores = cores()
    rows = []
    with contextlib.ExitStack() as stack:
        upstream = f"http://127.0.0.1:{stack.enter_context(stub(other_cores)).port}"
        os.sched_setaffinity(0, server_cores)
        for name, url in stores(stack, other_cores):
            numbers = (1, options.runs)
            apps = [
                application(
                    upstream,
                    lambda ledger, number=number: fill(ledger, number),  # type: ignore[misc] # mypy#12557
                    LEDGER_URL=another(url, number),
                    RATE_LIMIT_PER_RUN="off",
                    RATE_LIMIT_PER_IP="off",
                )
                for number in numbers
            ]
            costs: tuple[list[float], ...] = ([], [])
            for _ in range(ROUNDS):
                for app, number, found in zip(apps, numbers, costs, strict=True):
                    found.append(cost(app, number))
            one, many = map(statistics.median, costs)
            rows.append((name, f"{one:,.0f}", f"{many:,.0f}", f"{many / one:.2f}"))
    heading(f"CPU µs a call by the number of runs, 1 and {options.runs:,}")
    show(("ledger", "1 run", f"{options.runs:,} runs", "ratio"), rows)


def another(url: str, number: int) -> str:
    """A store of its own for each number of runs, beside the others of its kind."""
    if url.startswith("sqlite"):
        return f"{url}.{number}"
    return f"{url}/{number > 1:d}" if url.startswith("redis") else url


def cost(app: Flask, runs: int) -> float:
    """Processor time of a call, in microseconds."""
    asked = [name_of(each) for each in random.choices(range(runs), k=CALLS)]
    began = time.process_time()
    for run in asked:
        call(app, ASK.path, ASK.body, {**ASK.headers, "X-Run-Id": run})
    return (time.process_time() - began) / CALLS * 1e6


if __name__ == "__main__":
    main()
