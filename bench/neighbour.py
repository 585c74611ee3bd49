"""Measure what a neighbour waits while one run sends bodies that take long to parse, check or count.

    python -m bench.neighbour [--seconds 6] [--shape NAME]

One worker on one core. One run, whose budget pays for no call, sends the same body on 8 connections, each as
soon as the last one was answered. Meanwhile a neighbour sends small chats, and a monitor asks for /health,
both at even intervals. A latency counts from the time at which its request was due.

Each shape has three rows: a body of MAX_BODY_BYTES, the largest body that is not refused for its structure,
and one of 64 kB. "closed" counts connections that were closed behind a refusal, "no answer" those of the end.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.body_shapes import SHAPES
from bench.http_request import COMPLETIONS_PATH, Request, chat
from bench.options import argument_parser
from bench.processes import run_client, split_cores
from bench.servers import Server, proxy, stub
from bench.tables import print_heading, print_table
from ridges_proxy.auth.run_tokens import RunTokens

CONNECTIONS = 8
RATE = 25.0
"""Requests a second, of the neighbour and of the monitor each."""

RUN_TOKEN_KEY = "a-key-for-run-tokens-of-this-benchmark"
COLUMNS = ("", "attacker's statuses", "call p50 ms", "p99", "/health p50 ms", "p99")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of each row (6)")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="a shape to measure (all)")
    options = parser.parse_args()
    server_cores, load_cores = split_cores()
    rows = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cores))
        server = stack.enter_context(proxy(upstream.url, server_cores, RUN_TOKEN_KEY=RUN_TOKEN_KEY))
        row("warm-up", server, None, options.seconds, load_cores)
        rows.append(row("none", server, None, options.seconds, load_cores))
        for name in options.shape or SHAPES:
            for label, body in SHAPES[name].bodies().items():
                request = Request(SHAPES[name].path, body, attacker_headers(f"{name}, {label}"))
                rows.append(row(f"{name}, {label}", server, request, options.seconds, load_cores))
    print_heading("A neighbour's latency")
    print_table(COLUMNS, rows)


def attacker_headers(run_id: str) -> dict[str, str]:
    """The headers of a run whose budget pays for no call."""
    token, _ = RunTokens(RUN_TOKEN_KEY, None).issue(run_id, 3600, budget_usd="0.000001")
    return {"Authorization": f"Bearer {token}"}


def row(
    name: str, server: Server, attack: Request | None, seconds: float, cores: set[int]
) -> tuple[str, ...]:
    """The latencies of the neighbour and of the monitor, during an attack or without one."""
    call, health = chat(COMPLETIONS_PATH).to_bytes(), b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n"
    with ThreadPoolExecutor(3) as clients:
        loads = [clients.submit(_open_load, server, request, seconds, cores) for request in (call, health)]
        statuses = {}
        if attack is not None:
            arguments = ["bench.closed_loop", str(server.port), str(CONNECTIONS), str(seconds)]
            statuses = clients.submit(run_client, arguments, attack.to_bytes(), cores).result()
        latencies = [load.result() for load in loads]
    cells = [f"{latency[name]:,.1f}" for latency in latencies for name in ("p50", "p99")]
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    errors = sum(latency["errors"] for latency in latencies)
    return (name, counts + (f" ({errors:.0f} errors)" if errors else ""), *cells)


def _open_load(server: Server, request: bytes, seconds: float, cores: set[int]) -> dict[str, float]:
    result: dict[str, Any] = run_client(
        ["bench.open_loop", str(server.port), str(RATE), str(seconds)], request, cores
    )
    return result


if __name__ == "__main__":
    main()
