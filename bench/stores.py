"""What a call's two steps cost on each store, by the number of runs; and how long they wait for each other.

    python -m bench.stores [--runs 1000000] [--seconds 3]

Microseconds for reserve + settle, one caller on one core; the server of a Redis has the other. Then two
processes on one ledger, each with 200 calls a second, and the longest that any verb took.
"""

from __future__ import annotations

# The first thing of all, as in gunicorn.conf.py.
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
import tempfile  # noqa: E402
import time  # noqa: E402
import zlib  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import gevent  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.processes import cores, redis  # noqa: E402
from ridges_proxy.calls.background import INTERVAL_SECONDS  # noqa: E402
from ridges_proxy.config import LedgerSettings, load_settings  # noqa: E402
from ridges_proxy.ledger import Kind, Run, SqliteLedger, open_ledger  # noqa: E402
from ridges_proxy.ledger.redis.ledger import BUCKETS, RedisLedger, key_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.ledger import Ledger

ROUNDS = 11
CALLS_PER_ROUND = 1_000
CAP_NANOUSD = 2_000_000_000
WANT_NANOUSD, COST_NANOUSD = 300_000, 1_000
CALLS_PER_SECOND = 200
AT_ONCE = 10_000


def main() -> None:
    options = parse_options()
    if options.caller:
        call_evenly(options.caller, options.seconds)
        return
    server_cores, other_cores = cores()
    os.sched_setaffinity(0, server_cores)
    table = Table(title="microseconds; milliseconds where two processes call", min_width=100)
    headings = ("store", "runs", "reserve + settle", "best", "server", "bytes", "two: p50", "p99", "longest")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "store" else "right")
    with contextlib.ExitStack() as stack:
        for name, url in stores(stack, other_cores):
            for runs in (1, options.runs):
                ledger = open_url(url)
                fill(ledger, runs)
                costs = [cost_of_a_call(ledger, runs) for _ in range(ROUNDS)]
                waits = waits_of_two(url, options.seconds) if name != "memory" else None
                table.add_row(
                    name,
                    f"{runs:,}",
                    f"{statistics.median(costs):.0f}",
                    f"{min(costs):.0f}",
                    server_microseconds(ledger),
                    bytes_a_run(ledger, runs),
                    *(
                        [f"{waits[each]:.2f}" for each in ("p50", "p99", "longest")]
                        if waits
                        else ["", "", ""]
                    ),
                )
    Console(width=110).print(table)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--caller", help=argparse.SUPPRESS)
    return parser.parse_args()


def stores(stack: contextlib.ExitStack, on: set[int]) -> Iterator[tuple[str, str]]:
    yield "memory", "memory://"
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield "sqlite", f"sqlite:///{folder}/ledger.db"
    for name, logged in (("redis", False), ("redis, appendfsync everysec", True)):
        with redis(on, logged=logged) as url:
            if url is None:
                return
            yield name, url


def open_url(url: str) -> Ledger:
    return open_ledger(load_settings(LedgerSettings, {"LEDGER_URL": url}))


def fill(ledger: Ledger, runs: int) -> None:
    """Make the runs known: by the store's own means, as a million calls would take minutes."""
    if isinstance(ledger, SqliteLedger):
        with ledger._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO runs VALUES (?, ?, 0, 0, 0, 0, 0, ?, ?, 0, 0)",
                ((name_of(index), CAP_NANOUSD, time.time(), time.time()) for index in range(runs)),
            )
        ledger.maintain()
    elif isinstance(ledger, RedisLedger):
        for first in range(0, runs, AT_ONCE):
            ledger._link.do(lambda client, first=first: fill_redis(client, first, min(runs, first + AT_ONCE)))  # type: ignore[misc] # mypy#12557
    else:
        for index in range(runs):
            call(ledger, index)


NOTHING = dict.fromkeys(
    ("inference", "embedding", "held", "calls", "in_flight", "remembered_until", "closed"), 0
)


def fill_redis(client: Any, first: int, last: int) -> None:  # noqa: ANN401 - redis-py's clients have no type in common
    with client.pipeline(transaction=False) as pipeline:
        for index in range(first, last):
            base = key_of(zlib.crc32(name_of(index).encode()) % BUCKETS)
            books = {**NOTHING, "cap": CAP_NANOUSD, "active_at": time.time()}
            pipeline.hset(f"{base}:run:{name_of(index)}", mapping=books)
            pipeline.zadd(f"{base}:idle", {name_of(index): time.time()})
        pipeline.execute()


def name_of(index: int) -> str:
    return f"run-{index:09}"


def call(ledger: Ledger, index: int) -> None:
    hold = ledger.reserve(Run(name_of(index), CAP_NANOUSD), Kind.INFERENCE, WANT_NANOUSD, COST_NANOUSD, 330.0)
    ledger.settle(hold, COST_NANOUSD)


def cost_of_a_call(ledger: Ledger, runs: int) -> float:
    sample = random.choices(range(runs), k=CALLS_PER_ROUND)
    started = time.perf_counter()
    for index in sample:
        call(ledger, index)
    microseconds = (time.perf_counter() - started) / CALLS_PER_ROUND * 1e6
    ledger.maintain()
    return microseconds


def server_microseconds(ledger: Ledger) -> str:
    """What a script takes of a Redis' own time, by its own account."""
    if not isinstance(ledger, RedisLedger):
        return ""
    scripts = ledger._link.do(lambda client: client.info("commandstats"))["cmdstat_evalsha"]
    return f"{scripts['usec_per_call']:.0f}"


def bytes_a_run(ledger: Ledger, runs: int) -> str:
    """Of the file, or of the server's memory above what it has when empty."""
    if runs == 1:
        return ""
    if isinstance(ledger, SqliteLedger):
        return f"{ledger._path.stat().st_size / runs:.0f}"
    if isinstance(ledger, RedisLedger):
        info = ledger._link.do(lambda client: client.info("memory"))
        return f"{(info['used_memory'] - info['used_memory_startup']) / runs:.0f}"
    return ""


def waits_of_two(url: str, seconds: float) -> dict[str, float]:
    """Two processes that call evenly, with the upkeep that workers do; milliseconds that a verb took."""
    command = [sys.executable, "-m", "bench.stores", "--caller", url, "--seconds", str(seconds)]
    root = Path(__file__).resolve().parent.parent
    callers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(2)]
    for caller, core in zip(callers, sorted(os.sched_getaffinity(1)), strict=False):
        os.sched_setaffinity(caller.pid, {core})
    waits = sorted(wait for caller in callers for wait in json.loads(caller.communicate()[0]))
    return {"p50": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100], "longest": waits[-1]}


def call_evenly(url: str, seconds: float) -> None:
    ledger = open_url(url)
    waits: list[float] = []

    def timed(index: int) -> None:
        began = time.perf_counter()
        hold = ledger.reserve(
            Run(name_of(index), CAP_NANOUSD), Kind.INFERENCE, WANT_NANOUSD, COST_NANOUSD, 330.0
        )
        between = time.perf_counter()
        gevent.sleep(0.002)
        after = time.perf_counter()
        ledger.settle(hold, COST_NANOUSD)
        waits.extend(((between - began) * 1e3, (time.perf_counter() - after) * 1e3))

    def keep_up() -> None:
        while True:
            gevent.sleep(INTERVAL_SECONDS)
            ledger.maintain()

    maintain = gevent.spawn(keep_up)
    end = time.perf_counter() + seconds
    calls = []
    while time.perf_counter() < end:
        calls.append(gevent.spawn(timed, random.randrange(1_000)))
        gevent.sleep(1 / CALLS_PER_SECOND)
    gevent.joinall(calls, raise_error=True)
    maintain.kill()
    print(json.dumps(waits))


if __name__ == "__main__":
    main()
