"""What the memory ledger costs: a call's two steps by the number of runs, and how long a sweep holds the hub.

python -m bench.ledger
"""

from __future__ import annotations

# The first thing of all, as in gunicorn.conf.py: the lock that is measured is gevent's.
from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402 - after the patch
import random  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402

from bench.service import log_to_nowhere  # noqa: E402
from ridges_proxy.ledger import Kind, MemoryLedger, Run, RunQuery, Sweeper  # noqa: E402
from ridges_proxy.telemetry import logs  # noqa: E402
from ridges_proxy.telemetry.metrics import Metrics  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (1, 1_000, 1_000_000)
ROUNDS = 21
CALLS_PER_ROUND = 2_000
CAP_NANOUSD = 2_000_000_000
WANT_NANOUSD = 300_000
COST_NANOUSD = 1_000
IDLE_AT_ONCE_SECONDS = 0.0
"""The TTL of runs here, so that a sweep forgets them all and no clock has to be moved."""

FILL_SLICE = 200
"""Runs made between two turns of the hub: each is a call of its own in the service."""


TIMER_SECONDS = 0.001


@dataclass
class HubStops:
    """How long the hub was held, as a greenlet sees it that waits on a timer of a millisecond.

    By the clock, and by the processor: what the clock shows above it went to other processes.
    """

    longest_seconds: float = 0.0
    longest_cpu_seconds: float = 0.0

    def watch(self) -> None:
        before, cpu_before = time.perf_counter(), time.thread_time()
        while True:
            gevent.sleep(TIMER_SECONDS)  # not 0: that is served out of turn, and sees no stop
            now, cpu_now = time.perf_counter(), time.thread_time()
            self.longest_seconds = max(self.longest_seconds, now - before - TIMER_SECONDS)
            self.longest_cpu_seconds = max(self.longest_cpu_seconds, cpu_now - cpu_before)
            before, cpu_before = now, cpu_now


@contextmanager
def measured(what: str) -> Iterator[None]:
    stops = HubStops()
    watcher = gevent.spawn(stops.watch)
    gevent.sleep(TIMER_SECONDS)
    collections = gc.get_stats()[2]["collections"]
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    gevent.sleep(TIMER_SECONDS)
    watcher.kill()
    collections = gc.get_stats()[2]["collections"] - collections
    print(
        f"{what:<30} {seconds:6.2f} s in all; hub held for {stops.longest_seconds * 1000:6.1f} ms at most,"
        f" {stops.longest_cpu_seconds * 1000:6.1f} ms of it CPU; {collections} full garbage collections"
    )


def call(ledger: MemoryLedger, run: Run) -> None:
    hold = ledger.reserve(run, Kind.INFERENCE, WANT_NANOUSD, COST_NANOUSD, 330.0)
    ledger.settle(hold, COST_NANOUSD)


def fill(ledger: MemoryLedger, runs: list[Run]) -> None:
    for index, run in enumerate(runs):
        call(ledger, run)
        if not index % FILL_SLICE:
            gevent.sleep(0)


def microseconds_per_call(ledger: MemoryLedger, runs: list[Run]) -> float:
    started = time.perf_counter()
    for run in runs:
        call(ledger, run)
    return (time.perf_counter() - started) / len(runs) * 1e6


def main() -> None:
    logs.configure("INFO", "json")
    log_to_nowhere()
    ledgers = {size: MemoryLedger(IDLE_AT_ONCE_SECONDS) for size in SIZES}
    runs = {size: [Run(f"run-{index:09}", CAP_NANOUSD) for index in range(size)] for size in SIZES}
    gc.collect()
    for size in SIZES:
        with measured(f"first calls of {size:,} runs"):
            fill(ledgers[size], runs[size])

    chosen = random.Random(1)
    samples: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            sample = chosen.choices(runs[size], k=CALLS_PER_ROUND)
            samples[size].append(microseconds_per_call(ledgers[size], sample))
    for size in SIZES:
        median = statistics.median(samples[size])
        print(f"reserve + settle, {size:>9,} runs known: {median:6.2f} µs (best {min(samples[size]):.2f})")

    most = ledgers[SIZES[-1]]
    with measured("list of 1,000,000 runs, a page"):
        most.list(RunQuery())
    with measured("sweep of 1,000,000 idle runs"):
        totals = Sweeper(most, 300.0, Metrics()).sweep()
    assert totals.forgotten_runs == SIZES[-1]


if __name__ == "__main__":
    main()
