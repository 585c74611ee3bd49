"""Requests per second and latency of `/agents/inference`, beside an empty Flask view.

    python bench/calls.py [--rounds 5] [--seconds 4] [--connections 32] [--events 20]

The proxy and the empty view run under the same gunicorn settings on core 0, in turn; the stand-in
for Chutes and the load generator share core 1. What is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROXY_KEY = "bench-proxy-key"


def main() -> None:
    options = parse_options()
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = {cores[0]}, set(cores[1:]) or {cores[0]}
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


def measure(port: int, request: bytes, seconds: float, connections: int, cores: set[int]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench/load.py"), str(port), str(seconds), str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as generator:
        os.sched_setaffinity(generator.pid, cores)
        output, _ = generator.communicate(request)
    result: dict[str, Any] = json.loads(output)
    return result


@contextlib.contextmanager
def stand_in(cores: set[int]) -> Iterator[str]:
    with process([sys.executable, "-m", "ridges_proxy.stand_in"], dict(os.environ), cores) as started:
        assert started.stdout is not None
        yield started.stdout.readline().decode().split()[-1]


@contextlib.contextmanager
def server(app: str, config: str, upstream: str, cores: set[int]) -> Iterator[int]:
    port = free_port()
    environ = {
        **os.environ,
        "CHUTES_API_KEY": "bench-chutes-key",
        "PROXY_API_KEY": PROXY_KEY,
        "CHUTES_BASE_URL": f"{upstream}/v1",
        "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
        "MAX_COST_PER_RUN": "100000",
        "MAX_CONCURRENT_CALLS_PER_RUN": "1000",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    with process([sys.executable, "-m", "gunicorn", "--config", config, app], environ, cores):
        await_port(port)
        yield port


@contextlib.contextmanager
def process(
    command: list[str], environ: dict[str, str], cores: set[int]
) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        command,
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.sched_setaffinity(started.pid, cores)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(40)
        if started.stdout:
            started.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


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
