"""Measure the memory ledger with 1, 1,000 and 1,000,000 runs.

    python -m bench.ledger

Prints the time of a call's two steps, and how long the first calls, a list and a sweep block the hub.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does: the ledger's lock is then gevent's.
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

from bench.ledger_setup import numbered_run, reserve_and_settle  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.service import discard_log_lines  # noqa: E402
from ridges_proxy.ledger import MemoryLedger, Run, RunQuery, Sweeper  # noqa: E402
from ridges_proxy.telemetry import logs  # noqa: E402
from ridges_proxy.telemetry.metrics import Metrics  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_COUNTS = (1, 1_000, 1_000_000)
ROUNDS = 21
CALLS_PER_ROUND = 2_000
RUN_TTL_SECONDS = 0.0
"""A sweep forgets every idle run at once."""

SWEEP_INTERVAL_SECONDS = 300.0
CALLS_PER_YIELD = 200
"""New runs between two yields to the hub. In the service each would be a call of its own."""

TIMER_SECONDS = 0.001


@dataclass
class HubDelays:
    """How long the hub was blocked, as a greenlet sees it that waits on a timer of a millisecond.

    The difference between the clock and the processor time went to other processes.
    """

    longest_seconds: float = 0.0
    longest_cpu_seconds: float = 0.0

    def watch(self) -> None:
        before, cpu_before = time.perf_counter(), time.thread_time()
        while True:
            gevent.sleep(TIMER_SECONDS)  # not 0: the hub resumes that greenlet before it looks at its timers
            now, cpu_now = time.perf_counter(), time.thread_time()
            self.longest_seconds = max(self.longest_seconds, now - before - TIMER_SECONDS)
            self.longest_cpu_seconds = max(self.longest_cpu_seconds, cpu_now - cpu_before)
            before, cpu_before = now, cpu_now


@contextmanager
def measured(label: str) -> Iterator[None]:
    """Print how long the context took, and how long it blocked the hub."""
    delays = HubDelays()
    watcher = gevent.spawn(delays.watch)
    gevent.sleep(TIMER_SECONDS)
    collections_before = full_collections()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    gevent.sleep(TIMER_SECONDS)
    watcher.kill()
    print(
        f"{label:<30} {seconds:6.2f} s in all;"
        f" hub blocked for at most {delays.longest_seconds * 1e3:6.1f} ms,"
        f" {delays.longest_cpu_seconds * 1e3:6.1f} ms of it CPU;"
        f" {full_collections() - collections_before} full garbage collections"
    )


def full_collections() -> int:
    """The number of garbage collections of the oldest generation so far."""
    count: int = gc.get_stats()[2]["collections"]
    return count


def make_first_calls(ledger: MemoryLedger, runs: list[Run]) -> None:
    for index, run in enumerate(runs):
        reserve_and_settle(ledger, run)
        if not index % CALLS_PER_YIELD:
            gevent.sleep(0)


def microseconds_per_call(ledger: MemoryLedger, runs: list[Run]) -> float:
    started = time.perf_counter()
    for run in runs:
        reserve_and_settle(ledger, run)
    return (time.perf_counter() - started) / len(runs) * 1e6


def main() -> None:
    argument_parser(__doc__).parse_args()
    logs.configure("INFO", "json")
    discard_log_lines()
    ledgers = {count: MemoryLedger(RUN_TTL_SECONDS) for count in RUN_COUNTS}
    runs = {count: [numbered_run(index) for index in range(count)] for count in RUN_COUNTS}
    gc.collect()
    for count in RUN_COUNTS:
        with measured(f"first calls of {count:,} runs"):
            make_first_calls(ledgers[count], runs[count])
    measure_calls(ledgers, runs)
    largest = ledgers[RUN_COUNTS[-1]]
    with measured("list of 1,000,000 runs, a page"):
        largest.list(RunQuery())
    with measured("sweep of 1,000,000 idle runs"):
        totals = Sweeper(largest, SWEEP_INTERVAL_SECONDS, Metrics()).sweep()
    assert totals.forgotten_runs == RUN_COUNTS[-1]


def measure_calls(ledgers: dict[int, MemoryLedger], runs: dict[int, list[Run]]) -> None:
    """Print the time of a call for each number of runs, measured in turn."""
    generator = random.Random(1)
    samples: dict[int, list[float]] = {count: [] for count in RUN_COUNTS}
    for _ in range(ROUNDS):
        for count in RUN_COUNTS:
            chosen = generator.choices(runs[count], k=CALLS_PER_ROUND)
            samples[count].append(microseconds_per_call(ledgers[count], chosen))
    for count in RUN_COUNTS:
        median = statistics.median(samples[count])
        print(f"reserve + settle, {count:>9,} runs: {median:6.2f} µs (best {min(samples[count]):.2f})")


if __name__ == "__main__":
    main()
