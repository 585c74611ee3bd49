"""This proxy as a gateway under test: on each store, with one worker or several, on one machine or two."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from bench.http_request import COMPLETIONS_PATH, EMBEDDING_PATH, INFERENCE_PATH
from bench.overspend.gateways import Gateway, Run, Spending
from bench.overspend.ledger_books import new_ledger
from bench.overspend.machines import THIS_MACHINE, second_machine
from bench.overspend.nests import MODELS
from bench.overspend.outcome import EMBEDDING_DEADLINE_SECONDS
from bench.overspend.proxy_server import ProxyServer
from bench.overspend.requests import CallKind, GatewayRequest
from bench.overspend.time_zones import SEARCH_PATH, write_zone
from bench.processes import wait_until
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.overspend.ledger_books import LedgerBooks
    from bench.overspend.shared_budgets import LevelKey, SharedBudget

TOKEN_KEY = "bench-run-token-key-0123456789abcdef"
TOKEN_SECONDS = 3600
START_SECONDS = 60.0
BUDGETS_FILE = "budgets.json"
BUDGETS_LOADED = "new budgets are in force"
"""Event that each worker logs."""

USD_PER_MTOK = 0.27
DEADLINE_SECONDS = 3
"""Short, so that the holds of a killed worker expire while the trial waits."""

SETTINGS = {
    "MAX_COST_PER_RUN": "2.0",
    "MODEL_PRICES": json.dumps(dict.fromkeys(MODELS, USD_PER_MTOK)),
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


class ProxyGateway(Gateway):
    """This proxy, with one server on each machine."""

    kinds = frozenset(CallKind)
    abilities = frozenset({"kill", "reload", "restart", "set_budgets", "run_ids", "forget", "cut"})
    is_this_proxy = True

    def __init__(
        self, name: str, servers: Sequence[ProxyServer], workers: int, books: LedgerBooks, folder: Path
    ) -> None:
        self.name = name
        self.loses_ledger = books.is_lost_with_server
        if books.lossy is not None:
            self.abilities |= {"losing_replies"}
        self._servers = servers
        self._workers = workers
        self._books = books
        self._folder = folder
        self._tokens = RunTokens(TOKEN_KEY, None)
        self._requests = 0
        self._budgets: tuple[SharedBudget, ...] = ()
        self._start()

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        run_id = run_id or uuid.uuid4().hex
        token, _ = self._tokens.issue(
            run_id, TOKEN_SECONDS, budget_usd=_usd(budget_nanousd), groups=list(groups) or None
        )
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

    def restart(self) -> None:
        self._stop()
        self._start()

    def set_budgets(self, budgets: Sequence[SharedBudget]) -> None:
        if tuple(budgets) != self._budgets:
            self._budgets = tuple(budgets)
            write_budgets(self._folder, budgets)
            expected = {
                server: server.times_logged(BUDGETS_LOADED) + self._workers for server in self._servers
            }
            for server in self._servers:
                os.kill(server.pid, signal.SIGHUP)
            wait_until(
                lambda: all(
                    server.times_logged(BUDGETS_LOADED) >= times for server, times in expected.items()
                ),
                "the budgets in all workers",
                START_SECONDS,
            )

    def levels(self, budgets: Sequence[SharedBudget]) -> dict[LevelKey, Spending] | None:
        return self._books.levels(budgets)

    @contextlib.contextmanager
    def losing_replies(self) -> Iterator[Callable[[], int]]:
        self._stop()
        self._start(self._books.lossy_url)
        yield self._books.lose_replies()
        self.restart()

    def _start(self, ledger_url: str | None = None) -> None:
        for server in self._servers:
            server.start(ledger_url)
        self._wait_until_ready()

    def _stop(self) -> None:
        for server in self._servers:
            server.stop()

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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_budgets(folder, ())
        all_settings = {
            **settings,
            "WORKERS": str(workers),
            "BUDGETS": str(folder / BUDGETS_FILE),
            SEARCH_PATH: str(folder),
        }
        books = stack.enter_context(new_ledger(store, machine_count))
        machines = [
            THIS_MACHINE,
            *(stack.enter_context(second_machine()) for _ in range(machine_count - 1)),
        ]
        servers = [
            ProxyServer(machine, upstream_url, books.url, all_settings, folder / f"{number}.log")
            for number, machine in enumerate(machines)
        ]
        for server in servers:
            stack.callback(server.stop)
        name = store
        if workers * machine_count > 1:
            name += f", {workers} workers"
        if machine_count > 1:
            is_namespace = machines[1] is not THIS_MACHINE
            name += f" on each of 2 {'network namespaces' if is_namespace else 'servers of one machine'}"
        yield ProxyGateway(name, servers, workers, books, folder)


def write_budgets(folder: Path, budgets: Sequence[SharedBudget]) -> None:
    """Write the file of BUDGETS, and the time zones in which their periods end as they must."""
    entries = [
        {
            "name": budget.name,
            "usd": _usd(budget.amount_nanousd),
            "window": budget.window,
            "zone": write_zone(folder, budget.ends_at),
            **({} if budget.group is None else {"group": budget.group}),
            **({} if budget.model is None else {"model": budget.model}),
        }
        for budget in budgets
    ]
    folder.joinpath(BUDGETS_FILE).write_text(json.dumps(entries), encoding="utf-8")


def _usd(nanousd: int) -> str:
    return f"{nanousd / NANOUSD_PER_USD:.9f}"
