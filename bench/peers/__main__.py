"""Compare this proxy with other gateways, with plain forwarders, and with Flask views that do less.

    python -m bench.peers [--rounds 5] [--seconds 10] [--only NAME,…] [--json FILE]

Each server runs on core 0; wrk (32 connections) and the stub upstream run on core 1. Each round measures all
rows in turn. The figures are medians, and the ratios are of one run. A call that is in flight at the end of a
round took processor time, but is not counted, so short rounds overstate the slowest peers.

This proxy has keys, budgets, metrics, rate limits and log lines on; a table says what the others do.

PyPI's and npm's packages are installed into bench/.peers, once. Otari is in no registry: OTARI_FOLDER names a
clone of its repository in which it is installed (bench/.peers/otari). A peer that cannot be run here is left
out, with a line that says why.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import target
from bench.http_load import COLUMNS, measure_in_turn, table_row
from bench.http_request import INFERENCE_PATH, ROUTES
from bench.options import rounds_parser
from bench.peers import ferrogw, flask_floors, forwarders, guide, litellm, otari, portkey, rolter
from bench.peers.flask_floors import BARE_RELAY
from bench.processes import MissingProgramError, split_cores
from bench.servers import proxy, stub
from bench.tables import print_heading, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bench.http_load import Round
    from bench.peers.peer import Peer, Row

    Results = dict[str, list[Round]]

WARMUP_SECONDS = 8.0
"""Node compiles frequent code while it runs: in its first seconds Portkey's gateway is half as fast."""

THIS_PROXY = (INFERENCE_PATH, "/v1 whole", "/v1 streamed")

PEERS = (
    *(guide.PEER, litellm.PEER, otari.PEER, portkey.PEER, ferrogw.PEER, rolter.PEER),
    *flask_floors.PEERS,
    *forwarders.PEERS,
)

RATE_RATIOS = (
    (INFERENCE_PATH, guide.PEER.name, 35.0),
    ("/v1 whole", "Portkey whole", 1.5),
    ("/v1 streamed", "LiteLLM streamed", 45.0),
)
"""Two rows whose requests a second are compared, and the least ratio that is wanted."""

CPU_LIMITS = {INFERENCE_PATH: 1.0, "/v1 streamed": 1.15, "/v1 whole": 0.95}
"""The most processor time that a call should take, in bare relays."""


def main() -> None:
    options = parse_options()
    present, results = compare(chosen(options.only), options.rounds, options.seconds)
    print_report(present, results)
    if options.json:
        options.json.write_text(json.dumps(as_json(targets_of(results)), indent=1))


def compare(peers: Iterable[Peer], rounds: int, seconds: float) -> tuple[list[Peer], Results]:
    """Measure this proxy and the peers in turn. Returns those that run here, and the rounds of each row."""
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        this_proxy = stack.enter_context(proxy(upstream.url, server_cores))
        compared: dict[str, Row] = {name: (this_proxy, ROUTES[name]) for name in THIS_PROXY}
        present = []
        for peer, rows in started(peers, stack, upstream.url, server_cores):
            present.append(peer)
            compared |= rows
        return present, measure_in_turn(compared, rounds, seconds, load_cores, WARMUP_SECONDS)


def parse_options() -> argparse.Namespace:
    parser = rounds_parser(__doc__, rounds=5, seconds=10.0)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios to this file, too")
    options = parser.parse_args()
    if unknown := set(filter(None, options.only.split(","))) - set(names):
        parser.error(f"no peer is named {', '.join(sorted(unknown))}")
    return options


def chosen(only: str) -> list[Peer]:
    """The peers with these names, separated by commas, and the bare relay; all of them without a name."""
    return [peer for peer in PEERS if not only or peer.name in [BARE_RELAY, *only.split(",")]]


def started(
    peers: Iterable[Peer], stack: contextlib.ExitStack, upstream_url: str, cores: set[int]
) -> Iterator[tuple[Peer, dict[str, Row]]]:
    """Start each peer. Yields those that run here, with their rows, and says why the others are left out."""
    for peer in peers:
        try:
            yield peer, stack.enter_context(peer.start(upstream_url, cores))
        except MissingProgramError as reason:
            print(f"{peer.name} is left out: {reason}", flush=True)


def print_report(peers: list[Peer], results: Results) -> None:
    print_heading("Gateways, answers of 20 events")
    print_table(COLUMNS, [table_row(name, rounds) for name, rounds in results.items()])
    for name, rounds in results.items():
        if silent := sum(not each.rate for each in rounds):
            print(f"{name} answered nothing in {silent} of {len(rounds)} rounds.")
    print_heading("Ratios of requests a second")
    print(target.table(rate_ratios(results)))
    print_heading(f"Processor time of a call, {BARE_RELAY} = 1")
    print(target.table(cpu_ratios(results)))
    print_heading("Versions and settings of the others")
    print_table(("", "version", "settings"), [(peer.name, peer.version(), peer.settings) for peer in peers])


def targets_of(results: Results) -> list[target.Target]:
    """All ratios."""
    return [*rate_ratios(results), *cpu_ratios(results)]


def rate_ratios(results: Results) -> list[target.Target]:
    """The ratios of requests a second. One is missing if the other does not run here, or answered nothing."""
    rates = medians(results, lambda each: each.rate)
    return [
        target.Target(
            name=f"{name} / {other}: requests a second", measured=ratio(rates, name, other), least=least
        )
        for name, other, least in RATE_RATIOS
    ]


def cpu_ratios(results: Results) -> list[target.Target]:
    """The processor time of every row beside the bare relay: those of this proxy have a limit."""
    cpu = medians(results, lambda each: each.cpu_microseconds if each.rate else math.nan)
    return [
        target.Target(
            name=f"{name} / {BARE_RELAY}: CPU of a call",
            measured=ratio(cpu, name, BARE_RELAY),
            most=CPU_LIMITS.get(name),
        )
        for name in cpu
        if name != BARE_RELAY
    ]


def ratio(figures: dict[str, float], name: str, other: str) -> float | None:
    """None if one of them has no figure."""
    found = figures[name] / figures[other] if figures.get(other) else math.nan
    return None if math.isnan(found) else found


def medians(results: Results, figure: Callable[[Round], float]) -> dict[str, float]:
    return {name: statistics.median(map(figure, rounds)) for name, rounds in results.items()}


def as_json(ratios: Sequence[target.Target]) -> dict[str, Any]:
    """The ratios, with a summary that names each."""
    each = ", ".join(f"{ratio.name} {ratio.row()[2]}" for ratio in ratios)
    return {**target.as_json(ratios), "summary": f"{target.summary(ratios)}; {each}"}


if __name__ == "__main__":
    main()
