"""This proxy as a gateway under test: on each store, with one worker or several, on one machine or two."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from bench.http_request import AUTHORIZATION, COMPLETIONS_PATH, EMBEDDING_PATH, INFERENCE_PATH
from bench.overspend.gateways import ALL_CORES, Gateway, Run, Spending
from bench.overspend.machines import THIS_MACHINE, Machine, second_machine
from bench.overspend.outcome import EMBEDDING_DEADLINE_SECONDS
from bench.overspend.requests import CallKind, GatewayRequest
from bench.processes import free_port, process, wait_until
from bench.servers import Server, proxy_settings, redis
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOKEN_KEY = "bench-run-token-key-0123456789abcdef"
TOKEN_SECONDS = 3600
START_SECONDS = 60.0
DEADLINE_SECONDS = 3
"""Short, so that the holds of a killed worker expire while the trial waits."""

SETTINGS = {
    "MAX_COST_PER_RUN": "2.0",
    "RUN_TOKEN_KEY": TOKEN_KEY,
    "MAX_CONCURRENT_CALLS_PER_RUN": "1000",
    "DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "EMBEDDING_DEADLINE_SECONDS": str(EMBEDDING_DEADLINE_SECONDS),
    "WRITE_TIMEOUT_SECONDS": "1",
    "SETTLE_TIMEOUT_SECONDS": "1",
    "RUN_TTL_SECONDS": "1",
    "SWEEP_INTERVAL_SECONDS": "0.5",
}


class Deployment(NamedTuple):
    """How the proxy is deployed."""

    store: str
    workers: int
    """On each machine."""
    machines: int


DEPLOYMENTS = (
    Deployment("memory", 1, 1),
    Deployment("SQLite", 1, 1),
    Deployment("Redis", 1, 1),
    Deployment("SQLite", 4, 1),
    Deployment("Redis", 4, 1),
    Deployment("Redis", 2, 2),
)


@dataclass(frozen=True)
class ProxyServer(Server):
    """One server of the proxy: gunicorn's master and its workers."""

    def get(self, path: str) -> dict[str, Any]:
        with contextlib.closing(HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.request("GET", path, headers=AUTHORIZATION)
            document: dict[str, Any] = json.loads(connection.getresponse().read())
            return document

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(self.get("/ready")["status"] == "ready")
        return False


class ProxyGateway(Gateway):
    """This proxy, with one server on each machine."""

    kinds = frozenset(CallKind)
    abilities = frozenset({"kill", "reload", "run_ids", "forget", "cut"})
    is_this_proxy = True

    def __init__(self, name: str, servers: list[ProxyServer], workers: int, *, loses_ledger: bool) -> None:
        self.name = name
        self.loses_ledger = loses_ledger
        self._servers = servers
        self._workers = workers
        self._tokens = RunTokens(TOKEN_KEY, None)
        self._requests = 0
        self._wait_until_ready()

    def new_run(self, budget_nanousd: int, run_id: str | None = None) -> Run:
        run_id = run_id or uuid.uuid4().hex
        budget_usd = f"{budget_nanousd / NANOUSD_PER_USD:.9f}"
        token, _ = self._tokens.issue(run_id, TOKEN_SECONDS, budget_usd=budget_usd)
        return Run(run_id, budget_nanousd, {"Authorization": f"Bearer {token}"})

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        self._requests += 1
        server = self._servers[self._requests % len(self._servers)]
        headers = {"Content-Type": "application/json", **run.headers}
        match kind:
            case CallKind.EMBEDDING:
                path, body = EMBEDDING_PATH, self.embedding_body(run, prompt)
            case CallKind.AGENTS:
                path, body = INFERENCE_PATH, self.chat_body(run, prompt, run_id=run.id, **fields)
            case _:
                path, body = COMPLETIONS_PATH, self.completions_body(run, kind, prompt, **fields)
        return GatewayRequest(path, body, headers, port=server.port, host=server.host)

    def spending(self, run: Run) -> Spending | None:
        usage = self._servers[0].get(f"/agents/usage?run_id={quote(run.id, safe='')}")
        spent, held = (round(usage[name] * NANOUSD_PER_USD) for name in ("used_cost_usd", "held_cost_usd"))
        return Spending(spent, held, usage["calls"])

    def kill(self) -> None:
        killed = self._worker_ids()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        self._wait_until_replaced(killed)

    def reload(self) -> None:
        old = self._worker_ids()
        for server in self._servers:
            os.kill(server.pid, signal.SIGHUP)
        self._wait_until_replaced(old)

    def _worker_ids(self) -> set[int]:
        return {pid for server in self._servers for pid in server.children()}

    def _wait_until_replaced(self, old: set[int]) -> None:
        wait_until(lambda: not old & self._worker_ids(), "new workers", START_SECONDS)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for server in self._servers:
            wait_until(server.is_ready, "a ready server", START_SECONDS)
        expected = self._workers * len(self._servers)
        wait_until(lambda: len(self._worker_ids()) == expected, "all workers", START_SECONDS)


@contextlib.contextmanager
def proxy_gateway(
    upstream_url: str, deployment: Deployment, settings: Mapping[str, str] = SETTINGS
) -> Iterator[ProxyGateway]:
    """Start this proxy on a new ledger. For two machines the upstream must listen on all addresses.

    The settings must have TOKEN_KEY as RUN_TOKEN_KEY.
    """
    store, workers, machine_count = deployment
    with ExitStack() as stack:
        ledger_url = stack.enter_context(_new_ledger(store, machine_count))
        machines = [
            THIS_MACHINE,
            *(stack.enter_context(second_machine()) for _ in range(machine_count - 1)),
        ]
        servers = [
            stack.enter_context(_proxy_server(machine, upstream_url, ledger_url, workers, settings))
            for machine in machines
        ]
        name = store
        if workers * machine_count > 1:
            name += f", {workers} workers"
        if machine_count > 1:
            is_namespace = machines[1] is not THIS_MACHINE
            name += f" on each of 2 {'network namespaces' if is_namespace else 'servers of one machine'}"
        yield ProxyGateway(name, servers, workers, loses_ledger=store == "memory")


@contextlib.contextmanager
def _new_ledger(store: str, machine_count: int) -> Iterator[str]:
    """The URL of an empty ledger."""
    match store:
        case "memory":
            yield "memory://"
        case "SQLite":
            with tempfile.TemporaryDirectory() as folder:
                yield f"sqlite:///{folder}/ledger.db"
        case _:
            bind = "0.0.0.0" if machine_count > 1 else "127.0.0.1"
            with redis(ALL_CORES, append_only=True, bind=bind) as url:
                yield url or sys.exit("Redis is needed for this deployment")


@contextlib.contextmanager
def _proxy_server(
    machine: Machine, upstream_url: str, ledger_url: str, workers: int, settings: Mapping[str, str]
) -> Iterator[ProxyServer]:
    port = free_port()
    environ = {
        **os.environ,
        **proxy_settings(upstream_url.replace("0.0.0.0", machine.address_of_this_machine)),
        **settings,
        "LEDGER_URL": ledger_url.replace("127.0.0.1", machine.address_of_this_machine),
        "WORKERS": str(workers),
        "HOST": machine.host,
        "PORT": str(port),
    }
    command = [*machine.command_prefix, sys.executable, "-m", "gunicorn", "wsgi:app"]
    with process(command, environ, ALL_CORES) as master:
        yield ProxyServer(port, master.pid, machine.host)
