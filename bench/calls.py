"""Requests a second, latency, processor time and memory: every route, prompt, answer, ledger and worker.

    python -m bench.calls [--rounds 5] [--seconds 2]

Each server is on core 0, the load (wrk, 32 connections) and the stub upstream on core 1; two workers have
both. Rounds go in turn over all that a table compares; the figures are medians. First the stub alone, to
show that it is never the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from typing import TYPE_CHECKING

from bench.http_load import Ask, Round, chat, embedding, measure
from bench.processes import Server, cores, server, shared_ledgers, stub
from bench.tables import heading, show

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("", "requests/s", "p50 ms", "p99 ms", "CPU µs a call", "resident MB", "errors")

ROUTES = {
    "/agents/inference": chat("/agents/inference"),
    "/agents/embedding": embedding(),
    "/v1 whole": chat("/v1/chat/completions"),
    "/v1 streamed": chat("/v1/chat/completions", stream=True),
}

SHAPES = {
    f"{name}, {events} events, {messages} message{'s' * (messages > 1)}": chat(
        path, events, messages=messages, stream=stream
    )
    for name, path, stream in (
        ("/agents/inference", "/agents/inference", False),
        ("/v1 whole", "/v1/chat/completions", False),
        ("/v1 streamed", "/v1/chat/completions", True),
    )
    for messages in (1, 40)
    for events in (20, 500)
}

EMPTY = Ask("/empty", headers={})


def main() -> None:
    options = parse_options()
    server_cores, load_cores = cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        url = f"http://127.0.0.1:{upstream.port}"
        direct = chat("/v1/chat/completions", stream=True)
        heading("The stub alone, on the load's core")
        show(COLUMNS, [row("stub", [measure(upstream, direct, options.seconds, load_cores)])])
        proxy = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", url, server_cores))
        floor = stack.enter_context(
            server("bench.empty_view:app", "bench/empty_view.conf.py", url, server_cores)
        )
        heading("One worker, memory://")
        plan = {name: (proxy, ask) for name, ask in {**SHAPES, "/agents/embedding": embedding()}.items()}
        compare({**plan, "empty Flask view": (floor, EMPTY)}, options, load_cores)
    with contextlib.ExitStack() as stack:
        url = f"http://127.0.0.1:{stack.enter_context(stub(load_cores)).port}"
        heading("Each ledger, one worker on core 0 and two on both cores")
        servers = dict(ledgers(stack, url, server_cores, load_cores))
        compare(
            {
                f"{route}, {name}": (each, ask)
                for route, ask in ROUTES.items()
                for name, each in servers.items()
            },
            options,
            load_cores,
        )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    return parser.parse_args()


def ledgers(
    stack: contextlib.ExitStack, upstream: str, server_cores: set[int], load_cores: set[int]
) -> Iterator[tuple[str, Server]]:
    """A server for each kind of ledger and number of workers."""

    def start(cores: set[int], **settings: str) -> Server:
        return stack.enter_context(server("wsgi:app", "gunicorn.conf.py", upstream, cores, **settings))

    yield "memory", start(server_cores)
    for name, (one, two) in shared_ledgers(stack, load_cores):
        yield name, start(server_cores, LEDGER_URL=one)
        yield f"{name}, 2 workers", start(server_cores | load_cores, LEDGER_URL=two, WORKERS="2")


def compare(plan: dict[str, tuple[Server, Ask]], options: argparse.Namespace, on: set[int]) -> None:
    """Measure all in turn, round after round, and print the medians."""
    for each, ask in plan.values():  # not counted: imports, pools, first connections
        measure(each, ask, 1.0, on)
    rounds: dict[str, list[Round]] = {name: [] for name in plan}
    for _ in range(options.rounds):
        for name, (each, ask) in plan.items():
            rounds[name].append(measure(each, ask, options.seconds, on))
    show(COLUMNS, [row(name, found) for name, found in rounds.items()])


def row(name: str, rounds: list[Round]) -> tuple[str, ...]:
    """The medians of the rounds."""
    return (
        name,
        f"{statistics.median(each.rate for each in rounds):,.0f}",
        f"{statistics.median(each.p50_milliseconds for each in rounds):.1f}",
        f"{statistics.median(each.p99_milliseconds for each in rounds):.1f}",
        f"{statistics.median(each.cpu_microseconds for each in rounds):,.0f}",
        f"{max(each.resident_kb for each in rounds) / 1000:.0f}",
        str(sum(each.errors for each in rounds)),
    )


if __name__ == "__main__":
    main()
