"""Load the proxy with good, bad and leaving clients for half an hour, at 70 % of its capacity.

    python -m bench.soak [--minutes 30] [--share 0.7] [--strict]

One worker on SQLite runs on core 0; the clients and the fake Chutes run on core 1. Exits with 1 if memory
grew after the warm-up, if file descriptors, greenlets or memory blocks leaked, if a hold is left over, if a
client got an unexpected result, or if the ledger does not agree with the upstream's bills. With `--strict` it
also exits with 1 if the hub was blocked for more than 0.1 s, as gevent's monitor reports it.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - after the patch
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import gevent  # noqa: E402

from bench.options import argument_parser  # noqa: E402
from bench.processes import raise_file_limit, resident_kb, split_cores  # noqa: E402
from bench.servers import Server, gunicorn  # noqa: E402
from bench.soak.blocked_hub import reports_of  # noqa: E402
from bench.soak.clients import EMBEDDING, FAILING, GOOD, LEAVING, Clients  # noqa: E402
from bench.soak.comparison import charged_by_kind, compare  # noqa: E402
from bench.tables import date_and_machine, print_heading, print_table  # noqa: E402
from ridges_proxy.cli.progress import progress  # noqa: E402
from tests.process.fake_chutes_control import Upstream  # noqa: E402

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bench.soak.clients import Tally
    from bench.soak.comparison import Comparison

CAPACITY_CLIENTS = 32
CAPACITY_SECONDS = 8.0
WARMUP_SHARE = 0.25
"""Of the samples: the service may grow to its working size during the first quarter."""

MAX_GROWTH_KB = 16_384
"""After the warm-up, at the median: SQLite's cache of its growing file, and memory that the allocator keeps
from the busiest moments. A leak shows in the count of memory blocks instead."""

MAX_LEAKED_BLOCKS = 5_000
"""More memory blocks of Python's allocator than before the load. In half an hour: below 0.01 a call."""

MAX_BLOCKED_SECONDS = "0.1"
QUIET_SECONDS = 65.0
"""For idle connections to be closed, broken calls to be settled, and the windows of rate limits to pass."""

COUNT_SECONDS = 30
LABELS = {
    GOOD: "successful calls",
    LEAVING: "clients that hung up",
    FAILING: "failures of the upstream",
    EMBEDDING: "embeddings",
}
"""The kinds of calls, as the output names them."""

SHOWN_EXAMPLES = 5


@dataclass(frozen=True)
class LiveObjects:
    """What is open or alive in the worker while there is no load."""

    descriptors: int
    greenlets: int
    blocks: int

    def since(self, before: LiveObjects) -> LiveObjects:
        return LiveObjects(
            self.descriptors - before.descriptors,
            self.greenlets - before.greenlets,
            self.blocks - before.blocks,
        )


@dataclass(frozen=True)
class Result:
    """The result of the soak."""

    minutes: float
    rate: float
    """Requests a second."""
    tally: Tally
    growth_kb: int
    leaked: LiveObjects
    comparison: Comparison
    hub_blocked: list[str]
    """Reports of gevent's monitor."""

    def problems(self, *, strict: bool) -> Iterator[str]:
        """A sentence for everything that must not be."""
        if self.growth_kb > MAX_GROWTH_KB:
            yield f"memory grew by {self.growth_kb} kB after the warm-up"
        if self.leaked.descriptors > 0:
            yield f"{self.leaked.descriptors} file descriptors leaked"
        if self.leaked.greenlets > 0:
            yield f"{self.leaked.greenlets} greenlets leaked"
        if self.leaked.blocks > MAX_LEAKED_BLOCKS:
            yield f"{self.leaked.blocks} memory blocks leaked"
        if unexpected := self.tally.unexpected:
            yield f"{len(unexpected)} clients got an unexpected result: {unexpected[:SHOWN_EXAMPLES]}"
        if strict and self.hub_blocked:
            yield f"the hub was blocked {len(self.hub_blocked)} times"
        yield from self.comparison.problems

    @property
    def figures(self) -> dict[str, int]:
        """The counts of the table."""
        return {
            "answered": self.tally.answered,
            "refused, as expected": self.tally.refused,
            "clients that hung up": self.tally.hung_up,
            "leaked file descriptors": self.leaked.descriptors,
            "leaked greenlets": self.leaked.greenlets,
            "leaked memory blocks": self.leaked.blocks,
            "memory growth, kB": self.growth_kb,
            "held at the end, nano-USD": self.comparison.held_nanousd,
            f"hub blocked for {MAX_BLOCKED_SECONDS} s": len(self.hub_blocked),
            "unexpected results": len(self.tally.unexpected),
        }

    def as_json(self) -> dict[str, Any]:
        """The summary, and all figures."""
        counts = "; ".join(f"{name} {count:,}" for name, count in self.figures.items())
        billed, charged = self.comparison.billed_and_charged[GOOD]
        return {
            "summary": f"{self.minutes:g} minutes at {self.rate:.0f} requests a second; {counts}; "
            f"{LABELS[GOOD]}: billed {billed:,}, charged {charged:,} nano-USD",
            "minutes": self.minutes,
            "rate": self.rate,
            **self.figures,
            "billed and charged, nano-USD": {
                LABELS[kind]: amounts for kind, amounts in self.comparison.billed_and_charged.items()
            },
        }

    def print(self) -> None:
        print_table(("measured", "count"), [(name, f"{count:,}") for name, count in self.figures.items()])
        print_table(
            ("", "billed by the upstream, nano-USD", "charged, nano-USD"),
            [
                (LABELS[kind], f"{billed:,}", f"{charged:,}")
                for kind, (billed, charged) in self.comparison.billed_and_charged.items()
            ],
        )
        for report in self.hub_blocked[:SHOWN_EXAMPLES]:
            print(report)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration of the load (30)")
    parser.add_argument("--share", type=float, default=0.7, help="share of the capacity (0.7)")
    parser.add_argument("--strict", action="store_true", help="fail if the hub was blocked")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    options = parser.parse_args()
    raise_file_limit()
    server_cores, load_cores = split_cores()
    os.sched_setaffinity(0, load_cores)
    with tempfile.TemporaryDirectory() as name, Upstream() as upstream:
        folder = Path(name)
        with start_proxy(upstream.url, folder, server_cores) as server:
            result = run_soak(server, upstream, folder, options)
    if options.json:
        options.json.write_text(json.dumps(result.as_json(), indent=1))
    problems = list(result.problems(strict=options.strict))
    for problem in problems:
        print(f"PROBLEM: {problem}")
    sys.exit(bool(problems))


@contextlib.contextmanager
def start_proxy(upstream_url: str, folder: Path, cores: set[int]) -> Iterator[Server]:
    settings = {
        "LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "MODEL_PRICES": json.dumps(dict.fromkeys((GOOD, LEAVING, FAILING), 0.27)),
        "DEFAULT_MODEL": GOOD,
        "CIRCUIT_FAILURES": "0",  # or the clients whose upstream fails would open the circuit breaker
        "GEVENT_MONITOR_THREAD_ENABLE": "1",
        "GEVENT_MAX_BLOCKING_TIME": MAX_BLOCKED_SECONDS,
        "SOAK_FOLDER": str(folder),
    }
    with (
        (folder / "log").open("wb") as log,
        gunicorn("wsgi:app", "bench/soak/server_conf.py", upstream_url, cores, log, **settings) as server,
    ):
        yield server


def run_soak(server: Server, upstream: Upstream, folder: Path, options: argparse.Namespace) -> Result:
    clients = Clients(server.port)
    with progress() as display:
        display.say(f"Measuring the capacity for {CAPACITY_SECONDS:.0f} s.")
        rate = options.share * measure_capacity(clients)
        display.say(f"Waiting {QUIET_SECONDS:.0f} s without load, before and after it.")
        before = count_live_objects(server, folder, clients)
        clients = Clients(server.port, seed=1)
        upstream.reset()
        charged_before = charged_by_kind(folder)
        samples_kb = []
        for _ in clients.make_requests_at(rate, 60 * options.minutes):
            samples_kb.append(server.resident_kb())
            display("seconds of load", len(samples_kb), round(60 * options.minutes))
        after = count_live_objects(server, folder, clients)
    result = Result(
        options.minutes,
        rate,
        clients.tally,
        growth_kb(samples_kb),
        after.since(before),
        compare(upstream, folder, charged_before),
        reports_of(folder / "log"),
    )
    print_heading(f"{options.minutes:g} minutes at {rate:.0f} requests a second ({date_and_machine()})")
    result.print()
    return result


def measure_capacity(clients: Clients) -> float:
    """The requests a second of the same mix in a closed loop."""
    end = time.monotonic() + CAPACITY_SECONDS
    requests = 0

    def make_requests() -> None:
        nonlocal requests
        while time.monotonic() < end:
            clients.make_request()
            requests += 1

    gevent.joinall([gevent.spawn(make_requests) for _ in range(CAPACITY_CLIENTS)])
    return requests / CAPACITY_SECONDS


def growth_kb(samples_kb: list[int]) -> int:
    """The median of the last quarter less the median of the quarter after the warm-up."""
    quarter = max(1, int(len(samples_kb) * WARMUP_SHARE))
    return round(
        statistics.median(samples_kb[-quarter:]) - statistics.median(samples_kb[quarter : 2 * quarter])
    )


def count_live_objects(server: Server, folder: Path, clients: Clients) -> LiveObjects:
    """Count descriptors, greenlets and memory blocks after a time without load."""
    gevent.sleep(QUIET_SECONDS)
    clients.make_good_call()  # the windows of rate limits drop their old entries with the next call
    gevent.sleep(1.0)
    result = folder / "count.result"
    result.unlink(missing_ok=True)
    (folder / "count").touch()
    with gevent.Timeout(COUNT_SECONDS):
        while not (result.exists() and result.read_text().endswith("\n")):
            gevent.sleep(0.05)
    greenlets, blocks = map(int, result.read_text().split())
    (worker,) = (pid for pid in server.children() if resident_kb(pid))
    descriptors = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    return LiveObjects(descriptors, greenlets, blocks)


if __name__ == "__main__":
    main()
