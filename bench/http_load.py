"""Closed-loop load by wrk: each of many connections sends its next request when the last one is answered."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import require_program

if TYPE_CHECKING:
    from bench.http_request import Request
    from bench.servers import Server

CONNECTIONS = 32
WARMUP_SECONDS = 1.0
"""For imports, pools and first connections."""

SCRIPT = Path(__file__).with_name("wrk.lua")

COLUMNS = ("", "requests/s", "p50 ms", "p99 ms", "p99 / p50", "CPU µs a call", "resident MB", "errors")


@dataclass(frozen=True)
class Round:
    """The result of one round of load."""

    rate: float
    """Requests a second."""
    p50_milliseconds: float
    p99_milliseconds: float
    errors: int
    cpu_microseconds: float
    """Processor time of the server's processes for each request."""
    resident_kb: int

    @property
    def p99_to_p50(self) -> float:
        """How unevenly the connections are served."""
        return self.p99_milliseconds / self.p50_milliseconds


def measure(
    server: Server, request: Request, seconds: float, cores: set[int], connections: int = CONNECTIONS
) -> Round:
    """Run wrk for one round on some cores."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(request.body)
        body.flush()
        headers = {"Content-Type": "application/json", **request.headers}
        command = [require_program("wrk", "wrk"), "--threads", "1", "--connections", str(connections)]
        command += ["--timeout", "60", "--duration", str(max(1, round(seconds))), "--script", str(SCRIPT)]
        command += [f"{server.url}{request.path}", "--", body.name]
        command += [f"{name}: {value}" for name, value in headers.items()]
        cpu_before = server.cpu_seconds()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
            os.sched_setaffinity(wrk.pid, cores)
            output, _ = wrk.communicate()
    result = json.loads(output.splitlines()[-1])
    requests = max(1, result["requests"])
    return Round(
        result["requests"] / result["seconds"],
        result["p50"],
        result["p99"],
        result["errors"],
        (server.cpu_seconds() - cpu_before) / requests * 1e6,
        server.resident_kb(),
    )


def measure_in_turn(
    targets: dict[str, tuple[Server, Request]],
    rounds: int,
    seconds: float,
    cores: set[int],
    warmup_seconds: float = WARMUP_SECONDS,
) -> dict[str, list[Round]]:
    """Warm every target up, then measure all of them in each round.

    So a change of the machine's speed affects all of them alike.
    """
    for server, request in targets.values():
        measure(server, request, warmup_seconds, cores)
    results: dict[str, list[Round]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, (server, request) in targets.items():
            results[name].append(measure(server, request, seconds, cores))
    return results


def table_row(name: str, rounds: list[Round]) -> tuple[str, ...]:
    """The medians of the rounds, the largest memory, and the sum of the errors, in the order of COLUMNS."""
    return (
        name,
        f"{statistics.median(each.rate for each in rounds):,.0f}",
        f"{statistics.median(each.p50_milliseconds for each in rounds):.1f}",
        f"{statistics.median(each.p99_milliseconds for each in rounds):.1f}",
        f"{statistics.median(each.p99_to_p50 for each in rounds):.1f}",
        f"{statistics.median(each.cpu_microseconds for each in rounds):,.0f}",
        f"{max(each.resident_kb for each in rounds) / 1000:.0f}",
        str(sum(each.errors for each in rounds)),
    )
