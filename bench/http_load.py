"""Closed-loop load by wrk: each of many connections sends its next request when the last one is answered."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
import time
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

QUIET_SECONDS = 20.0
"""A slow gateway needs seconds for 32 calls that nothing waits for."""

QUIET_STEP_SECONDS = 0.2
QUIET_SHARE = 0.15
"""Of a core: what background threads may use."""

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
        """How unevenly the connections are served; nan if nothing was answered."""
        return self.p99_milliseconds / self.p50_milliseconds if self.p50_milliseconds else math.nan


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
    used_seconds = server.cpu_seconds() - cpu_before
    wait_until_quiet(server)
    result = json.loads(output.splitlines()[-1])
    return Round(
        result["requests"] / result["seconds"],
        result["p50"],
        result["p99"],
        result["errors"],
        used_seconds / max(1, result["requests"]) * 1e6,
        server.resident_kb(),
    )


def wait_until_quiet(server: Server) -> None:
    """Wait until the server has ended the calls that wrk left, so that they take no time of the next row."""
    end = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < end:
        before = server.cpu_seconds()
        time.sleep(QUIET_STEP_SECONDS)
        if server.cpu_seconds() - before < QUIET_SHARE * QUIET_STEP_SECONDS:
            return


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
