"""Measure the latency that the proxy, and a bare relay, add at 20, 50 and 80 % of their capacity.

    python -m bench.latency [--rounds 5] [--seconds 4]

The capacity of each row is the rate of a closed loop of wrk in the same run. The load itself is open:
requests are due at even intervals, and a latency counts from the time at which its request was due. Each
round goes straight to the stub and then through the proxy, at the same rate. The added latency is the
difference of the two, for each percentile, as the median of the rounds.
"""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.http_load import measure
from bench.http_request import EMBEDDING_PATH, RELAY_REQUEST, ROUTES
from bench.options import rounds_parser
from bench.peers.flask_floors import BARE_RELAY
from bench.processes import run_client, split_cores
from bench.servers import Server, bare_relay, proxy, stub
from bench.tables import print_heading, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.http_request import Request

LOAD_SHARES = (0.2, 0.5, 0.8)
CAPACITY_SECONDS = 2.0
CHAT_ROUTES = {name: request for name, request in ROUTES.items() if name != EMBEDDING_PATH}
COLUMNS = ("", "straight: p50", "p99", "through: p50", "p99", "added: p50", "p99", "errors")


@dataclass(frozen=True)
class Latency:
    """The results of each round of open load, straight to the stub and through the proxy."""

    rate: float
    """Requests a second."""
    rounds: list[tuple[dict[str, float], dict[str, float]]]

    def added_milliseconds(self, percentile: str) -> float:
        """The median of the differences. `percentile` is p50 or p99."""
        return statistics.median(
            through[percentile] - straight[percentile] for straight, through in self.rounds
        )

    @property
    def errors(self) -> float:
        return sum(straight["errors"] + through["errors"] for straight, through in self.rounds)

    def cells(self) -> tuple[str, ...]:
        """The cells of a row."""
        percentiles = ("p50", "p99")
        milliseconds = [
            statistics.median(results[path][name] for results in self.rounds)
            for path in (0, 1)
            for name in percentiles
        ]
        milliseconds += [self.added_milliseconds(name) for name in percentiles]
        return (*(f"{each:.2f}" for each in milliseconds), f"{self.errors:.0f}")


def main() -> None:
    options = rounds_parser(__doc__, rounds=5, seconds=4.0).parse_args()
    rows = [
        (f"{name}, {share:.0%}: {latency.rate:,.0f}/s", *latency.cells())
        for name, share, latency in latencies(LOAD_SHARES, options.rounds, options.seconds)
    ]
    print_heading("Added latency, ms")
    print_table(COLUMNS, rows)


def latencies(shares: tuple[float, ...], rounds: int, seconds: float) -> Iterator[tuple[str, float, Latency]]:
    """Measure each route for chats and the bare relay at each share of its capacity. Yields both."""
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        server = stack.enter_context(proxy(upstream.url, server_cores))
        relay = stack.enter_context(bare_relay(upstream.url, server_cores))
        rows = {name: (server, request) for name, request in CHAT_ROUTES.items()}
        for name, (through, request) in {**rows, BARE_RELAY: (relay, RELAY_REQUEST)}.items():
            # The proxy streams from the upstream for /agents/inference too.
            straight_request = ROUTES["/v1 whole" if name == "/v1 whole" else "/v1 streamed"]
            capacity = statistics.median(
                measure(through, request, CAPACITY_SECONDS, load_cores).rate for _ in range(rounds)
            )
            for share in shares:
                rate = capacity * share
                results = [
                    (
                        open_load(upstream, straight_request, rate, seconds, load_cores),
                        open_load(through, request, rate, seconds, load_cores),
                    )
                    for _ in range(rounds)
                ]
                yield name, share, Latency(rate, results)


def open_load(
    server: Server, request: Request, rate: float, seconds: float, cores: set[int]
) -> dict[str, float]:
    """One round of open load."""
    arguments = ["bench.open_loop", str(server.port), str(rate), str(seconds)]
    result: dict[str, Any] = run_client(arguments, request.to_bytes(), cores)
    return result


if __name__ == "__main__":
    main()
