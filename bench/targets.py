"""Measure the targets of this project's speed in one run, and say which are reached.

    python -m bench.targets [--rounds 5] [--seconds 3] [--streams 2000] [--peers] [--json FILE] [--page FILE]

- Processor time of a call, as a ratio to a bare relay (bench/bare_relay.py) under gunicorn's own worker.
- Fairness: the 99th percentile of a closed loop of 32 connections, as a multiple of its median.
- The rate with SQLite and with Redis, as a share of the rate with the ledger in memory.
- Streams whose events come at a fixed rate, whole and relayed.
- The latency that the proxy adds at half of its capacity; for comparison, also that of the bare relay.
- The capacity of two workers, as a multiple of that of one.
- The time from the start to the first answer, and the memory at rest.
- With `--peers` the rates of other gateways, which it installs (python -m bench.peers).

What is compared is measured in turn, and a ratio is the median of the ratios of the rounds. Always exits with
0: a shared machine may miss each target. `--page` writes the table into a page that has a part for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import target
from bench.http_load import Round, measure_in_turn
from bench.http_request import RELAY_REQUEST, ROUTES
from bench.latency import latencies
from bench.options import rounds_parser
from bench.pages import write_part
from bench.peers import __main__ as peers
from bench.peers.flask_floors import BARE_RELAY
from bench.processes import raise_file_limit, split_cores
from bench.servers import bare_relay, proxy, shared_ledger_urls, stub
from bench.start import median_start
from bench.streams import Benchmark
from bench.tables import measured_on, print_heading
from bench.target import Target
from bench.workers import Load, measure_workers, ratios_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

PART = "targets"
"""The part of the page."""

SHARES_PERCENT = {"sqlite": 88.0, "redis": 85.0}
SLOW_DOWNS = {"whole answers": 1.10, "relayed": 1.25}
"""At the median."""
MOST_P99_TO_P50 = 3.0
MOST_KB_A_STREAM = 45.0
MOST_ADDED_MILLISECONDS = {"p50": 1.2, "p99": 4.0}
LEAST_TWO_WORKERS = 1.8
MOST_START_SECONDS, MOST_MB_AT_REST = 1.0, 55.0

HALF_LOAD = 0.5


def main() -> None:
    options = parse_options()
    raise_file_limit()
    all_cores = os.sched_getaffinity(0)
    found: list[Target] = []
    for part in parts(options):
        os.sched_setaffinity(0, all_cores)
        print(part.__doc__, file=sys.stderr, flush=True)
        found += part(options)
    text = f"{measured_on()}\n\n{target.table(found)}\n{target.count(found)}.\n"
    print_heading("Targets")
    print(text)
    if options.json:
        options.json.write_text(json.dumps(target.as_json(found), indent=1))
    if options.page:
        write_part(options.page, PART, text)


def parse_options() -> argparse.Namespace:
    parser = rounds_parser(__doc__, rounds=5, seconds=3.0)
    parser.add_argument("--streams", type=int, default=2_000, help="concurrent streams (2000)")
    parser.add_argument("--peers", action="store_true", help="compare with other gateways, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table into this page, too")
    return parser.parse_args()


def parts(options: argparse.Namespace) -> list[Callable[[argparse.Namespace], Iterable[Target]]]:
    """The measurements, one after another."""
    chosen: list[Callable[[argparse.Namespace], Iterable[Target]]] = [
        measure_routes,
        measure_ledgers,
        measure_streams,
        measure_latency,
        measure_two_workers,
        measure_start,
    ]
    return [*chosen, measure_peers] if options.peers else chosen


def measure_routes(options: argparse.Namespace) -> Iterator[Target]:
    """Processor time in comparison with the bare relay, and fairness, of each route."""
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        server = stack.enter_context(proxy(upstream.url, server_cores))
        relay = stack.enter_context(bare_relay(upstream.url, server_cores))
        compared = {BARE_RELAY: (relay, RELAY_REQUEST)}
        compared |= {name: (server, request) for name, request in ROUTES.items()}
        results = measure_in_turn(compared, options.rounds, options.seconds, load_cores)
    yield from targets_of_routes(results)


def targets_of_routes(results: dict[str, list[Round]]) -> Iterator[Target]:
    microseconds = {name: [each.cpu_microseconds for each in rounds] for name, rounds in results.items()}
    for name, most in peers.CPU_LIMITS.items():
        yield Target(
            name=f"{name}: CPU of a call / {BARE_RELAY}",
            measured=median_ratio(microseconds[name], microseconds[BARE_RELAY]),
            most=most,
        )
    for name in ROUTES:
        rounds = results[name]
        yield Target(
            name=f"{name}: p99 / p50 in the closed loop",
            measured=statistics.median(each.p99_to_p50 for each in rounds),
            most=MOST_P99_TO_P50,
        )
    yield Target(name="errors in the closed loop", measured=errors_of(results), most=0)


def measure_ledgers(options: argparse.Namespace) -> Iterator[Target]:
    """The rate of each route with each ledger, one worker each."""
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        urls = {"memory": "memory://"}
        urls |= {name: one for name, (one, _) in shared_ledger_urls(stack, load_cores)}
        servers = {
            name: stack.enter_context(proxy(upstream.url, server_cores, LEDGER_URL=url))
            for name, url in urls.items()
        }
        compared = {
            f"{route}, {ledger}": (server, request)
            for route, request in ROUTES.items()
            for ledger, server in servers.items()
        }
        results = measure_in_turn(compared, options.rounds, options.seconds, load_cores)
    yield from targets_of_ledgers(results)


def targets_of_ledgers(results: dict[str, list[Round]]) -> Iterator[Target]:
    rates = {name: [each.rate for each in rounds] for name, rounds in results.items()}
    for ledger, least in SHARES_PERCENT.items():
        for route in ROUTES:
            ratio = median_ratio(rates.get(f"{route}, {ledger}", []), rates[f"{route}, memory"])
            share = None if ratio is None else 100 * ratio
            yield Target(name=f"{route}: {ledger} / memory", measured=share, unit="%", least=least)
    yield Target(name="errors with each ledger", measured=errors_of(results), most=0)


def measure_streams(options: argparse.Namespace) -> Iterator[Target]:
    """The slow-down, the errors and the memory of many streams at once."""
    for name, figures in Benchmark(*split_cores()).figures(options.streams):
        title = f"{options.streams:,} streams, {name}"
        yield Target(name=f"{title}: slow-down p50", measured=figures.slow_down("p50"), most=SLOW_DOWNS[name])
        yield Target(name=f"{title}: slow-down p99", measured=figures.slow_down("p99"))
        yield Target(name=f"{title}: errors", measured=int(figures.errors), most=0)
        yield Target(
            name=f"{title}: memory of a stream",
            measured=figures.kb_a_stream,
            unit="kB",
            most=MOST_KB_A_STREAM,
        )


def measure_latency(options: argparse.Namespace) -> Iterator[Target]:
    """The latency that each route for chats, and the bare relay, add at half load."""
    for name, _, latency in latencies((HALF_LOAD,), options.rounds, options.seconds):
        for percentile, most in MOST_ADDED_MILLISECONDS.items():
            yield Target(
                name=f"{name}: added at half load, {percentile}",
                measured=latency.added_milliseconds(percentile),
                unit="ms",
                most=None if name == BARE_RELAY else most,
            )
        yield Target(name=f"{name}: errors at half load", measured=int(latency.errors), most=0)


def measure_two_workers(options: argparse.Namespace) -> Iterator[Target]:
    """The capacity of two workers on each ledger that workers can share."""
    load, all_cores = Load(options.rounds, options.seconds), os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(all_cores))
        for name, urls in shared_ledger_urls(stack, all_cores):
            one, two = measure_workers(upstream.url, urls, load, all_cores)
            yield Target(
                name=f"{name}: two workers / one",
                measured=statistics.median(ratios_of(one, two)),
                least=LEAST_TWO_WORKERS,
            )


def measure_start(options: argparse.Namespace) -> Iterator[Target]:
    """The start and the memory at rest."""
    found = median_start(options.rounds)
    yield Target(name="start to the first answer", measured=found.seconds, unit="s", most=MOST_START_SECONDS)
    yield Target(name="a worker at rest", measured=found.resident_kb / 1_000, unit="MB", most=MOST_MB_AT_REST)


def measure_peers(options: argparse.Namespace) -> Iterable[Target]:
    """The rates of other gateways."""
    _, results = peers.compare(peers.PEERS, options.rounds, options.seconds)
    return peers.rate_ratios(results)


def median_ratio(figures: list[float], others: list[float]) -> float | None:
    """The median of the ratios of the rounds; None if the first was not measured."""
    ratios = [figure / other for figure, other in zip(figures, others, strict=False) if other]
    return statistics.median(ratios) if ratios else None


def errors_of(results: dict[str, list[Round]]) -> int:
    return sum(each.errors for rounds in results.values() for each in rounds)


if __name__ == "__main__":
    main()
