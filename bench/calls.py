"""Requests per second and latency of `/agents/inference`, beside an empty Flask view.

    python -m bench.calls [--rounds 5] [--seconds 4] [--connections 32] [--events 20]

The proxy and the empty view run under the same gunicorn settings on core 0, in turn; the stand-in
for Chutes and the load generator share core 1. What is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.processes import PROXY_KEY, ROOT, cores, server, stand_in


def main() -> None:
    options = parse_options()
    server_cores, load_cores = cores()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stand_in(load_cores))
        proxy_port = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", upstream, server_cores))
        empty_port = stack.enter_context(
            server("bench.empty_view:app", "bench/empty_view.conf.py", upstream, server_cores)
        )
        targets = {
            f"/agents/inference, {options.events} events": (proxy_port, inference_request(options.events)),
            "empty Flask view": (
                empty_port,
                b"POST /empty HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n",
            ),
        }
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in targets}
        for port, request in targets.values():  # not counted: imports, pools, first connections
            measure(port, request, 1.0, options.connections, load_cores)
        for _ in range(options.rounds):
            for name, (port, request) in targets.items():
                results[name].append(measure(port, request, options.seconds, options.connections, load_cores))
    show(results, options)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--events", type=int, default=20)
    return parser.parse_args()


def inference_request(events: int) -> bytes:
    directive = json.dumps({"events": events})
    content = f"Say something. [[stand-in {directive}]]"
    body = json.dumps({"run_id": "bench", "messages": [{"role": "user", "content": content}]}).encode()
    head = (
        "POST /agents/inference HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {PROXY_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def measure(port: int, request: bytes, seconds: float, connections: int, on: set[int]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench/load.py"), str(port), str(seconds), str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as generator:
        os.sched_setaffinity(generator.pid, on)
        output, _ = generator.communicate(request)
    result: dict[str, Any] = json.loads(output)
    return result


def show(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    table = Table(
        title=f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s,"
        f" Python {platform.python_version()}"
    )
    for heading in ("", "requests/s", "p50 ms", "p99 ms", "errors", "of the empty view"):
        table.add_column(heading, justify="left" if not heading else "right")
    rates = {
        name: statistics.median(row["requests"] / row["seconds"] for row in rows)
        for name, rows in results.items()
    }
    for name, rows in results.items():
        table.add_row(
            name,
            f"{rates[name]:,.0f}",
            f"{statistics.median(row['p50_milliseconds'] for row in rows):.1f}",
            f"{statistics.median(row['p99_milliseconds'] for row in rows):.1f}",
            str(sum(row["errors"] for row in rows)),
            f"{rates[name] / rates['empty Flask view']:.0%}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
