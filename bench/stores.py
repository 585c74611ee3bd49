"""Measure the two steps of a call, reserve and settle, on each store.

    python -m bench.stores [--runs 1000000] [--seconds 3]

First one caller on one core, then 32 callers at once, whose steps meet and are served together, with 1 run
and with a million runs in the ledger; a Redis server has another core. Then two processes on one ledger, each
with 200 calls a second, and the time that a single step took, which shows how long they wait for each other.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402

from bench.ledger_setup import (  # noqa: E402
    COST_NANOUSD,
    add_runs,
    ledger_urls,
    numbered_run,
    open_ledger_url,
    reserve,
    reserve_and_settle,
)
from bench.options import argument_parser  # noqa: E402
from bench.processes import ROOT, split_cores  # noqa: E402
from bench.tables import print_heading, print_table  # noqa: E402
from ridges_proxy.calls.background import INTERVAL_SECONDS  # noqa: E402
from ridges_proxy.ledger import SqliteLedger  # noqa: E402
from ridges_proxy.ledger.redis.ledger import RedisLedger  # noqa: E402

if TYPE_CHECKING:
    from ridges_proxy.ledger import Ledger

ROUNDS = 11
CALLS_PER_ROUND = 1_000
CALLERS_AT_ONCE = 32
"""As many as the connections of `bench.calls`."""

CALLS_PER_SECOND = 200
CALL_SECONDS = 0.002
"""From the hold to its settlement, where two processes call."""

COLUMNS = (
    "store",
    "runs",
    "reserve + settle",
    "best",
    "32 at once",
    "script in Redis",
    "bytes per run",
    "two processes: p50",
    "p99",
    "longest",
)


def main() -> None:
    options = parse_options()
    if options.caller:
        print(json.dumps(call_at_even_intervals(options.caller, options.seconds)))
        return
    server_cores, other_cores = split_cores()
    os.sched_setaffinity(0, server_cores)
    rows = []
    with contextlib.ExitStack() as stack:
        for name, url in ledger_urls(stack, other_cores):
            for runs in (1, options.runs):
                ledger = open_ledger_url(url)
                add_runs(ledger, runs)
                microseconds = [microseconds_per_call(ledger, runs) for _ in range(ROUNDS)]
                at_once = [microseconds_at_once(ledger, runs) for _ in range(ROUNDS)]
                steps = two_processes_cells(url, options.seconds) if name != "memory" else ("", "", "")
                rows.append(
                    (
                        name,
                        f"{runs:,}",
                        f"{statistics.median(microseconds):.0f} µs",
                        f"{min(microseconds):.0f} µs",
                        f"{statistics.median(at_once):.0f} µs",
                        redis_script_cell(ledger),
                        bytes_per_run_cell(ledger, runs),
                        *steps,
                    )
                )
    print_heading("Reserve and settle on each store")
    print_table(COLUMNS, rows)


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="runs in the ledger (1000000)")
    parser.add_argument("--seconds", type=float, default=3.0, help="time that two processes call (3)")
    parser.add_argument("--caller", help=argparse.SUPPRESS)
    return parser.parse_args()


def microseconds_per_call(ledger: Ledger, runs: int) -> float:
    indexes = random.choices(range(runs), k=CALLS_PER_ROUND)
    started = time.perf_counter()
    for index in indexes:
        reserve_and_settle(ledger, numbered_run(index))
    microseconds = (time.perf_counter() - started) / CALLS_PER_ROUND * 1e6
    ledger.maintain()
    return microseconds


def microseconds_at_once(ledger: Ledger, runs: int) -> float:
    """The time of a call while others reserve and settle in the same turns of the hub."""

    def call_in_a_row() -> None:
        for index in random.choices(range(runs), k=CALLS_PER_ROUND // CALLERS_AT_ONCE):
            reserve_and_settle(ledger, numbered_run(index))

    started = time.perf_counter()
    gevent.joinall([gevent.spawn(call_in_a_row) for _ in range(CALLERS_AT_ONCE)], raise_error=True)
    calls = CALLS_PER_ROUND // CALLERS_AT_ONCE * CALLERS_AT_ONCE
    microseconds = (time.perf_counter() - started) / calls * 1e6
    ledger.maintain()
    return microseconds


def redis_script_cell(ledger: Ledger) -> str:
    """The time that one script takes inside Redis, as Redis reports it."""
    if not isinstance(ledger, RedisLedger):
        return ""
    scripts = ledger._client.do(lambda client: client.info("commandstats"))["cmdstat_evalsha"]
    return f"{scripts['usec_per_call']:.0f} µs"


def bytes_per_run_cell(ledger: Ledger, runs: int) -> str:
    """The size of the file, or the growth of Redis' memory since its start, divided by the number of runs."""
    if runs == 1:
        return ""
    if isinstance(ledger, SqliteLedger):
        return f"{ledger._path.stat().st_size / runs:.0f}"
    if isinstance(ledger, RedisLedger):
        info = ledger._client.do(lambda client: client.info("memory"))
        return f"{(info['used_memory'] - info['used_memory_startup']) / runs:.0f}"
    return ""


def two_processes_cells(url: str, seconds: float) -> tuple[str, str, str]:
    """The median, the 99th percentile and the longest time of a step while two processes call."""
    command = [sys.executable, "-m", "bench.stores", "--caller", url, "--seconds", str(seconds)]
    callers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    for caller, core in zip(callers, sorted(os.sched_getaffinity(1)), strict=False):
        os.sched_setaffinity(caller.pid, {core})
    milliseconds = sorted(step for caller in callers for step in json.loads(caller.communicate()[0]))
    median, p99 = milliseconds[len(milliseconds) // 2], milliseconds[len(milliseconds) * 99 // 100]
    return f"{median:.2f} ms", f"{p99:.2f} ms", f"{milliseconds[-1]:.2f} ms"


def call_at_even_intervals(url: str, seconds: float) -> list[float]:
    """Make calls and a worker's regular maintenance. The milliseconds that each step took."""
    ledger = open_ledger_url(url)
    steps_milliseconds: list[float] = []

    def timed_call(index: int) -> None:
        reserve_started = time.perf_counter()
        hold = reserve(ledger, numbered_run(index))
        reserved = time.perf_counter()
        gevent.sleep(CALL_SECONDS)
        settle_started = time.perf_counter()
        ledger.settle(hold, COST_NANOUSD)
        settled = time.perf_counter()
        steps_milliseconds.extend(((reserved - reserve_started) * 1e3, (settled - settle_started) * 1e3))

    def repeat_maintenance() -> None:
        while True:
            gevent.sleep(INTERVAL_SECONDS)
            ledger.maintain()

    maintenance = gevent.spawn(repeat_maintenance)
    end = time.perf_counter() + seconds
    calls = []
    while time.perf_counter() < end:
        calls.append(gevent.spawn(timed_call, random.randrange(1_000)))
        gevent.sleep(1 / CALLS_PER_SECOND)
    gevent.joinall(calls, raise_error=True)
    maintenance.kill()
    return steps_milliseconds


if __name__ == "__main__":
    main()
