"""This proxy, on each of its ledgers, with one worker or several, on one machine or two."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.overspend.asks import Ask, Kind
from bench.overspend.gateways import ALL_CORES, MAX_TOKENS, Books, Gateway, Run
from bench.overspend.machines import HERE, Machine, second_machine
from bench.overspend.outcome import EMBEDDING_SECONDS
from bench.processes import free_port, process, process_tree
from bench.servers import PROXY_KEY, redis
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

TOKEN_KEY = "bench-run-token-key-0123456789abcdef"
TOKEN_SECONDS = 3600
DEADLINE_SECONDS = 3
"""Short, so that the holds of a worker that was killed fall due while the benchmark waits for it."""

SETTINGS = {
    "CHUTES_API_KEY": "bench-chutes-key",
    "PROXY_API_KEY": PROXY_KEY,
    "RUN_TOKEN_KEY": TOKEN_KEY,
    "MAX_CONCURRENT_CALLS_PER_RUN": "1000",
    "DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "EMBEDDING_DEADLINE_SECONDS": str(EMBEDDING_SECONDS),
    "WRITE_TIMEOUT_SECONDS": "1",
    "SETTLE_TIMEOUT_SECONDS": "1",
    "RUN_TTL_SECONDS": "1",
    "SWEEP_INTERVAL_SECONDS": "0.5",
}


@dataclass(frozen=True)
class Server:
    """A master and its workers."""

    host: str
    port: int
    master: subprocess.Popen[bytes]

    def workers(self) -> set[int]:
        """Their process ids."""
        return set(process_tree(self.master.pid)[1:])

    def get(self, path: str) -> dict[str, Any]:
        """Ask it for something, by the shared key."""
        with contextlib.closing(HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {PROXY_KEY}"})
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found

    def is_ready(self) -> bool:
        """Whether it takes calls."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(self.get("/ready")["status"] == "ready")
        return False


class Ours(Gateway):
    """This proxy, on one of its ledgers, with so many workers on each of its servers."""

    kinds = frozenset(Kind)
    can = frozenset({"kill", "reload", "names", "sleep", "cut"})

    def __init__(self, name: str, servers: list[Server], workers: int, *, forgets: bool) -> None:
        self.name = name
        self.forgets = forgets
        self._servers = servers
        self._workers = workers
        self._tokens = RunTokens(TOKEN_KEY, None)
        self._asked = 0
        self._await_all()

    def run(self, budget_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        run_id = run_id or uuid.uuid4().hex
        key = PROXY_KEY
        if by_token:
            usd = f"{budget_nanousd / NANOUSD_PER_USD:.9f}"
            key, _ = self._tokens.mint(run_id, TOKEN_SECONDS, budget_usd=usd)
        return Run(run_id, budget_nanousd, (("Authorization", f"Bearer {key}"),))

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        self._asked += 1
        server = self._servers[self._asked % len(self._servers)]
        match kind:
            case Kind.EMBEDDING:
                path, body = "/agents/embedding", json.dumps({"run_id": run.id, "input": prompt}).encode()
            case Kind.AGENTS:
                path, body = "/agents/inference", self.chat(run, prompt, run_id=run.id, **fields)
            case _:
                usual = {"stream": kind is Kind.STREAM, "max_tokens": MAX_TOKENS}
                path, body = "/v1/chat/completions", self.chat(run, prompt, **{**usual, **fields})
        return Ask(server.port, path, body, headers, server.host)

    def books(self, run: Run) -> Books | None:
        told = self._servers[0].get(f"/agents/usage?run_id={quote(run.id, safe='')}")
        return Books(_nanousd(told["used_cost_usd"]), _nanousd(told["held_cost_usd"]), told["calls"])

    def kill(self) -> None:
        gone = self._all_workers()
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        _wait(lambda: not gone & self._all_workers(), "new workers")
        self._await_all()

    def reload(self) -> None:
        old = self._all_workers()
        for server in self._servers:
            server.master.send_signal(signal.SIGHUP)
        _wait(lambda: not old & self._all_workers(), "workers with the new settings")
        self._await_all()

    def _all_workers(self) -> set[int]:
        return {pid for server in self._servers for pid in server.workers()}

    def _await_all(self) -> None:
        for server in self._servers:
            _wait(server.is_ready, "readiness")
        _wait(lambda: len(self._all_workers()) == self._workers * len(self._servers), "all workers")


OURS = (
    ("memory", 1, 1),
    ("SQLite", 1, 1),
    ("Redis", 1, 1),
    ("SQLite", 4, 1),
    ("Redis", 4, 1),
    ("Redis", 2, 2),
)
"""Ledgers, each with its workers a machine and its machines."""


@contextlib.contextmanager
def ours(upstream: str, ledger: str, workers: int, machines: int) -> Iterator[Ours]:
    """Start this proxy on a ledger of its own. For two machines the upstream must listen on all addresses."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = {"memory": "memory://", "SQLite": f"sqlite:///{folder}/ledger.db"}.get(ledger)
        if url is None:
            everywhere = "0.0.0.0" if machines > 1 else "127.0.0.1"
            url = stack.enter_context(redis(ALL_CORES, append_only=True, bind=everywhere)) or sys.exit(
                "no Redis here"
            )
        name = f"ours, {ledger}"
        if workers * machines > 1:
            name += f", {workers} workers"
        found = [HERE, *(stack.enter_context(second_machine()) for _ in range(machines - 1))]
        if machines > 1:
            name += " on each of 2 " + (
                "masters on one machine" if found[1] is HERE else "network namespaces"
            )
        servers = [stack.enter_context(_server(each, upstream, url, workers)) for each in found]
        yield Ours(name, servers, workers, forgets=ledger == "memory")


@contextlib.contextmanager
def _server(machine: Machine, upstream: str, url: str, workers: int) -> Iterator[Server]:
    port = free_port()
    seen = upstream.replace("0.0.0.0", machine.sees_us_at)
    environ = {
        **os.environ,
        **SETTINGS,
        "CHUTES_BASE_URL": f"{seen}/v1",
        "CHUTES_EMBEDDING_URL": f"{seen}/embed",
        "LEDGER_URL": url.replace("127.0.0.1", machine.sees_us_at),
        "WORKERS": str(workers),
        "HOST": machine.host,
        "PORT": str(port),
    }
    command = [*machine.command, sys.executable, "-m", "gunicorn", "wsgi:app"]
    with process(command, environ, ALL_CORES) as master:
        yield Server(machine.host, port, master)


def _nanousd(usd: float) -> int:
    return round(usd * NANOUSD_PER_USD)


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.02)
