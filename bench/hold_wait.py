"""Measure how long a waiting call takes to get its hold once the hold before it is settled.

    python -m bench.hold_wait [--waits 200]

In memory, the process that settles wakes the waiting call. In SQLite and Redis, the call waits in another
process, which polls the ledger. Each call waits for a random time first, so that a settlement
falls anywhere between two polls.
"""

from __future__ import annotations

# Patch before any other import, as gunicorn.conf.py does.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - after the patch
import contextlib  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from functools import partial  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402

from bench.ledger_setup import BUDGET_NANOUSD, HOLD_SECONDS, ledger_urls, numbered_run, open_ledger_url  # noqa: E402
from bench.options import argument_parser  # noqa: E402
from bench.processes import ROOT  # noqa: E402
from bench.servers import proxy_settings  # noqa: E402
from bench.tables import print_heading, print_table  # noqa: E402
from ridges_proxy.calls.admission import Admission  # noqa: E402
from ridges_proxy.calls.hold_wait import HoldWaits, finished  # noqa: E402
from ridges_proxy.config import Settings, load_settings  # noqa: E402
from ridges_proxy.ledger import Kind  # noqa: E402
from ridges_proxy.telemetry.metrics import Metrics  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ridges_proxy.ledger import Hold, Ledger

RUN = numbered_run(1)
MAX_PAUSE_SECONDS = 0.2
"""Of the random time before a settlement. After 75 ms the pauses between polls no longer grow."""

PATIENCE_SECONDS = 10.0
COLUMNS = ("store", "who notices", "median", "p99", "longest")


class _PatientClient:
    """A client that never hangs up."""

    @contextlib.contextmanager
    def watch(self, interrupt: Callable[[Exception], None]) -> Iterator[None]:  # noqa: ARG002 - it never interrupts
        yield

    def hang_up(self) -> None:
        return


class _Caller:
    """Calls of one process that wait for the whole budget of a run."""

    def __init__(self, ledger: Ledger) -> None:
        settings = load_settings(Settings, proxy_settings("http://127.0.0.1:1"))
        self._ledger = ledger
        self._admission = Admission(settings.max_concurrent_calls)
        self.waits = HoldWaits(ledger, self._admission, Metrics(), settings)

    def reserve(self) -> Hold:
        return self._ledger.reserve(RUN, Kind.INFERENCE, BUDGET_NANOUSD, BUDGET_NANOUSD, HOLD_SECONDS)

    def held_at(self) -> float:
        """Wait for the hold and settle it. Return the time when the call got it."""
        reserve = partial(
            self._ledger.reserve, RUN, Kind.INFERENCE, BUDGET_NANOUSD, BUDGET_NANOUSD, HOLD_SECONDS
        )
        with self._admission.enter(RUN.id) as in_flight:
            waits = self.waits.hold(RUN, BUDGET_NANOUSD, reserve, in_flight, _PatientClient())
            hold = finished(waits)
        held_at = time.monotonic()
        self._ledger.settle(hold, 0)
        return held_at


def main() -> None:
    options = parse_options()
    if options.waiter:
        answer_with_times(open_ledger_url(options.waiter))
        return
    rows = []
    with contextlib.ExitStack() as stack:
        for name, url in ledger_urls(stack, os.sched_getaffinity(0)):
            ledger = open_ledger_url(url)
            if name == "memory":
                rows.append(row(name, "the same process", in_one_process(ledger, options.waits)))
            else:
                rows.append(row(name, "a poll", between_processes(ledger, url, options.waits)))
            ledger.disconnect()
    print_heading("From a settlement to the next hold")
    print_table(COLUMNS, rows)


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--waits", type=int, default=200, help="measured for each store (200)")
    parser.add_argument("--waiter", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_one_process(ledger: Ledger, waits: int) -> list[float]:
    """The seconds of each wait of a call of the process that settles."""
    caller, seconds = _Caller(ledger), []
    for _ in range(waits):
        hold = caller.reserve()
        waiting = gevent.spawn(caller.held_at)
        settled_at = settle_later(ledger, hold)
        caller.waits.wake(RUN.id, None)
        seconds.append(waiting.get() - settled_at)
    return seconds


def between_processes(ledger: Ledger, url: str, waits: int) -> list[float]:
    """The seconds of each wait of a call of another process. Both read the same monotonic clock."""
    caller, seconds = _Caller(ledger), []
    command = [sys.executable, "-m", "bench.hold_wait", "--waiter", url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as waiter:
        assert waiter.stdin
        assert waiter.stdout
        for _ in range(waits):
            hold = caller.reserve()
            waiter.stdin.write("wait\n")
            waiter.stdin.flush()
            settled_at = settle_later(ledger, hold)
            seconds.append(float(waiter.stdout.readline()) - settled_at)
        waiter.stdin.close()
    return seconds


def settle_later(ledger: Ledger, hold: Hold) -> float:
    """Settle the hold some time after a call waits for it. Return the time before the settlement."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not ledger.waiting(RUN.id):
        if time.monotonic() > end:
            sys.exit("no call waits")
        time.sleep(0.001)
    time.sleep(random.uniform(0, MAX_PAUSE_SECONDS))
    settled_at = time.monotonic()
    ledger.settle(hold, 0)
    return settled_at


def answer_with_times(ledger: Ledger) -> None:
    """For each line of the input, wait for a hold, and print the time when the call got it."""
    caller = _Caller(ledger)
    for _ in sys.stdin:
        print(caller.held_at(), flush=True)


def row(store: str, notices: str, seconds: list[float]) -> tuple[str, ...]:
    """The median, the 99th percentile and the longest of the times."""
    milliseconds = sorted(1e3 * each for each in seconds)
    chosen = (milliseconds[len(milliseconds) * share // 100] for share in (50, 99))
    return (store, notices, *(f"{each:.1f} ms" for each in (*chosen, milliseconds[-1])))


if __name__ == "__main__":
    main()
