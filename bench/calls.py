"""Measure calls: requests a second, latency, processor time and memory.

    python -m bench.calls [--rounds 5] [--seconds 2]

It compares all routes, short and long prompts and completions, and then all ledgers with one worker and with
two. One worker runs on core 0; the load (wrk, 32 connections) and the stub upstream run on core 1. Two
workers share both cores with them. Each round measures all rows of a table in turn, and the figures are
medians. The first table measures the stub alone, to show that it is never the limit.

Target: p99 / p50 of at most 3 in each row with one worker. A connection that waits longer than others for its
turn raises it. So does a machine with other load, and a second worker, which has half of the connections and
shares its core with the load.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bench.http_load import COLUMNS, measure, measure_in_turn, table_row
from bench.http_request import (
    COMPLETIONS_PATH,
    EMBEDDING_PATH,
    INFERENCE_PATH,
    ROUTES,
    Request,
    chat,
)
from bench.options import rounds_parser
from bench.processes import split_cores
from bench.servers import Server, empty_view, proxy, shared_ledger_urls, stub
from bench.tables import print_heading, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

CHATS = {
    f"{name}, {events} events, {messages} message{'s' * (messages > 1)}": chat(
        path, events, messages=messages, stream=stream
    )
    for name, path, stream in (
        (INFERENCE_PATH, INFERENCE_PATH, False),
        ("/v1 whole", COMPLETIONS_PATH, False),
        ("/v1 streamed", COMPLETIONS_PATH, True),
    )
    for messages in (1, 40)
    for events in (20, 500)
}
"""Chats with short and long prompts and completions."""

EMPTY_REQUEST = Request("/empty")


def main() -> None:
    options = rounds_parser(__doc__, rounds=5, seconds=2.0).parse_args()
    server_cores, load_cores = split_cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        print_heading("The stub alone, on the load's core")
        print_table(
            COLUMNS,
            [table_row("stub", [measure(upstream, ROUTES["/v1 streamed"], options.seconds, load_cores)])],
        )
        memory_proxy = stack.enter_context(proxy(upstream.url, server_cores))
        empty = stack.enter_context(empty_view(upstream.url, server_cores))
        targets = {name: (memory_proxy, request) for name, request in CHATS.items()}
        targets[EMBEDDING_PATH] = memory_proxy, ROUTES[EMBEDDING_PATH]
        targets["empty Flask view"] = empty, EMPTY_REQUEST
        print_heading("One worker, memory://")
        print_comparison(targets, options, load_cores)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        servers = dict(servers_by_ledger(stack, upstream.url, server_cores, load_cores))
        targets = {
            f"{route}, {ledger}": (server, request)
            for route, request in ROUTES.items()
            for ledger, server in servers.items()
        }
        print_heading("Each ledger, one worker on core 0 and two on both cores")
        print_comparison(targets, options, load_cores)


def servers_by_ledger(
    stack: contextlib.ExitStack, upstream_url: str, server_cores: set[int], load_cores: set[int]
) -> Iterator[tuple[str, Server]]:
    """A proxy for each store and number of workers."""
    yield "memory", stack.enter_context(proxy(upstream_url, server_cores))
    for name, (one, two) in shared_ledger_urls(stack, load_cores):
        yield name, stack.enter_context(proxy(upstream_url, server_cores, LEDGER_URL=one))
        two_workers = proxy(upstream_url, server_cores | load_cores, LEDGER_URL=two, WORKERS="2")
        yield f"{name}, 2 workers", stack.enter_context(two_workers)


def print_comparison(
    targets: dict[str, tuple[Server, Request]], options: argparse.Namespace, load_cores: set[int]
) -> None:
    results = measure_in_turn(targets, options.rounds, options.seconds, load_cores)
    print_table(COLUMNS, [table_row(name, rounds) for name, rounds in results.items()])


if __name__ == "__main__":
    main()
