"""The gateways that are measured: how each is started, asked, killed, and how its books are read."""

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
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from bench.overspend.asks import Ask, Kind
from bench.processes import PROXY_KEY, ROOT, await_port, family_of, free_port, process, redis
from ridges_proxy.pricing import NANOUSD_PER_USD
from ridges_proxy.run_tokens import RunTokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MODEL = "deepseek-ai/DeepSeek-V3-0324"
USD_PER_MTOK = 0.27
MAX_TOKENS = 1024
"""What a client of /v1 asks for; it is what calls of /agents have."""

TOKEN_KEY = "bench-run-token-key-0123456789abcdef"
TOKEN_SECONDS = 3600
START_SECONDS = 120.0
DEADLINE_SECONDS = 3
"""Ours: short, so that the holds of a worker that was killed fall due while the benchmark waits for it."""

MASTER_KEY = "sk-bench-0123456789abcdef0123456789"
PEERS = ROOT / "bench" / ".peers" / "venv" / "bin" / "python"
"""Their own environment, which `python -m bench.peers` makes."""

ALL_CORES = os.sched_getaffinity(0)


@dataclass(frozen=True)
class Books:
    """A run's books in nano-USD, as its gateway tells them."""

    spent_nanousd: int
    held_nanousd: int = 0


@dataclass(frozen=True)
class Run:
    """A run, and how it is named to its gateway."""

    id: str
    cap_nanousd: int
    headers: tuple[tuple[str, str], ...] = ()
    model: str = MODEL


class Gateway:
    """A running gateway. What one cannot do, it does not list in `kinds` and `can`."""

    name: str
    kinds: ClassVar[frozenset[Kind]]
    can: ClassVar[frozenset[str]] = frozenset()
    forgets = False
    """Its books are gone with its process."""

    @staticmethod
    def chat(run: Run, prompt: str, **fields: object) -> bytes:
        """The body of a chat, for any gateway: one message, the run's model, and these fields."""
        messages = [{"role": "user", "content": prompt}]
        return json.dumps({"model": run.model, "messages": messages, **fields}).encode()

    def run(self, cap_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        """Begin a run with a cap of its own."""
        raise NotImplementedError

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        """A request of the run; the fields go beside the prompt."""
        raise NotImplementedError

    def books(self, run: Run) -> Books | None:
        """What it says that the run has spent; None if it does not say."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill it, or its workers, with SIGKILL, and wait until it serves again."""
        raise NotImplementedError

    def reload(self) -> None:
        """Have it read its settings anew, and wait until it has."""
        raise NotImplementedError


class Ours(Gateway):
    """This proxy, on one of its ledgers, with so many workers on each of its servers."""

    kinds = frozenset(Kind)
    can = frozenset({"kill", "reload", "names", "sleep", "cut"})

    def __init__(self, stack: ExitStack, upstream: str, url: str, workers: int, servers: int) -> None:
        self._tokens = RunTokens(TOKEN_KEY, None)
        settings = {
            **os.environ,
            "CHUTES_API_KEY": "bench-chutes-key",
            "PROXY_API_KEY": PROXY_KEY,
            "RUN_TOKEN_KEY": TOKEN_KEY,
            "CHUTES_BASE_URL": f"{upstream}/v1",
            "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
            "LEDGER_URL": url,
            "WORKERS": str(workers),
            "MAX_CONCURRENT_CALLS_PER_RUN": "1000",
            "DEADLINE_SECONDS": str(DEADLINE_SECONDS),
            "WRITE_TIMEOUT_SECONDS": "1",
            "SETTLE_TIMEOUT_SECONDS": "1",
            "RUN_TTL_SECONDS": "1",
            "SWEEP_INTERVAL_SECONDS": "0.5",
            "HOST": "127.0.0.1",
        }
        self._workers = workers
        self._ports = [free_port() for _ in range(servers)]
        self._masters = [
            stack.enter_context(
                process(
                    [sys.executable, "-m", "gunicorn", "wsgi:app"], {**settings, "PORT": str(port)}, ALL_CORES
                )
            )
            for port in self._ports
        ]
        self._asked = 0
        self._await_all()

    def run(self, cap_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        run_id = run_id or uuid.uuid4().hex
        key = PROXY_KEY
        if by_token:
            usd = f"{cap_nanousd / NANOUSD_PER_USD:.9f}"
            key, _ = self._tokens.mint(run_id, TOKEN_SECONDS, budget_usd=usd)
        return Run(run_id, cap_nanousd, (("Authorization", f"Bearer {key}"),))

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        self._asked += 1
        port = self._ports[self._asked % len(self._ports)]
        if kind is Kind.EMBEDDING:
            body = {"run_id": run.id, "input": prompt}
            return Ask(port, "/agents/embedding", json.dumps(body).encode(), headers)
        if kind is Kind.AGENTS:
            return Ask(port, "/agents/inference", self.chat(run, prompt, run_id=run.id, **fields), headers)
        whole = self.chat(run, prompt, **{"stream": kind is Kind.STREAM, "max_tokens": MAX_TOKENS, **fields})
        return Ask(port, "/v1/chat/completions", whole, headers)

    def books(self, run: Run) -> Books | None:
        told = self._get(self._ports[0], f"/agents/usage?run_id={quote(run.id, safe='')}")
        return Books(_nanousd(told["used_cost_usd"]), _nanousd(told["held_cost_usd"]))

    def kill(self) -> None:
        gone = [pid for master in self._masters for pid in family_of(master.pid)[1:]]
        for pid in gone:
            os.kill(pid, signal.SIGKILL)
        _wait(lambda: not set(gone) & self._children(), "new workers")
        self._await_all()

    def reload(self) -> None:
        old = self._children()
        for master in self._masters:
            master.send_signal(signal.SIGHUP)
        _wait(lambda: not old & self._children(), "workers with the new settings")
        self._await_all()

    def _children(self) -> set[int]:
        return {pid for master in self._masters for pid in family_of(master.pid)[1:]}

    def _await_all(self) -> None:
        for port in self._ports:
            await_port(port)
            _wait(partial(self._is_ready, port), "readiness")
        _wait(lambda: len(self._children()) == self._workers * len(self._masters), "all workers")

    def _is_ready(self, port: int) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(self._get(port, "/ready")["status"] == "ready")
        return False

    @staticmethod
    def _get(port: int, path: str) -> dict[str, Any]:
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {PROXY_KEY}"})
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found


class GuideService(Gateway):
    """The service that this one replaces: its caps are of one size, so there is a process for each size."""

    name = "guide's service"
    kinds = frozenset({Kind.AGENTS, Kind.EMBEDDING})
    can = frozenset({"names"})

    def __init__(self, stack: ExitStack, upstream: str, caps_nanousd: Iterable[int]) -> None:
        self._ports: dict[int, int] = {}
        for cap_nanousd in caps_nanousd:
            port = self._ports[cap_nanousd] = free_port()
            settings = {
                **os.environ,
                "PROXY_API_KEY": PROXY_KEY,
                "CHUTES_API_KEY": "bench",
                "CHUTES_BASE_URL": f"{upstream}/v1",
                "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
                "MAX_COST_PER_RUN": f"{cap_nanousd / NANOUSD_PER_USD:.9f}",
            }
            command = [str(PEERS), "-m", "uvicorn", "bench.guide_service:app", "--port", str(port)]
            stack.enter_context(process(command, settings, ALL_CORES))
        for port in self._ports.values():
            await_port(port, START_SECONDS)

    def run(self, cap_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        del by_token  # it knows one key
        return Run(run_id or uuid.uuid4().hex, cap_nanousd, (("Authorization", f"Bearer {PROXY_KEY}"),))

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        port = self._ports[run.cap_nanousd]
        if kind is Kind.EMBEDDING:
            body = {"run_id": run.id, "input": prompt}
            return Ask(port, "/agents/embedding", json.dumps(body).encode(), headers)
        return Ask(port, "/agents/inference", self.chat(run, prompt, run_id=run.id, **fields), headers)

    def books(self, run: Run) -> Books | None:
        del run
        return None


class LiteLLM(Gateway):
    """LiteLLM's proxy without a database: its budgets are of deployments then, and each run has one."""

    name = "LiteLLM"
    kinds = frozenset({Kind.WHOLE, Kind.STREAM})

    def __init__(self, stack: ExitStack, upstream: str, caps_nanousd: Iterable[int], runs: int) -> None:
        self._port = free_port()
        self._free = {cap: [f"run-{cap}-{number}" for number in range(runs)] for cap in caps_nanousd}
        models = [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"{upstream}/v1",
                    "api_key": "bench",
                    "input_cost_per_token": USD_PER_MTOK / 1e6,
                    "output_cost_per_token": USD_PER_MTOK / 1e6,
                    "max_budget": cap / NANOUSD_PER_USD,
                    "budget_duration": "30d",
                    "max_retries": 0,
                },
                "model_info": {"id": name},
            }
            for cap, names in self._free.items()
            for name in names
        ]
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "litellm.yaml"
        settings = {"telemetry": False, "num_retries": 0}
        config.write_text(
            json.dumps({"model_list": models, "litellm_settings": settings})
        )  # which is YAML, too
        command = [str(PEERS.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
        environ = {**os.environ, "LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        stack.enter_context(process([*command, "--port", str(self._port)], environ, ALL_CORES))
        await_port(self._port, START_SECONDS)

    def run(self, cap_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        del run_id, by_token  # a deployment's budget is all that it has
        name = self._free[cap_nanousd].pop()
        return Run(name, cap_nanousd, (("Authorization", f"Bearer {MASTER_KEY}"),), name)

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        whole = self.chat(run, prompt, **{"stream": kind is Kind.STREAM, "max_tokens": MAX_TOKENS, **fields})
        return Ask(self._port, "/v1/chat/completions", whole, headers)

    def books(self, run: Run) -> Books | None:
        del run
        return None


OURS = (
    ("memory", 1, 1),
    ("SQLite", 1, 1),
    ("Redis", 1, 1),
    ("SQLite", 4, 1),
    ("Redis", 4, 1),
    ("Redis", 2, 2),
)
"""Ledgers, each with its workers a server and its servers."""


@contextlib.contextmanager
def ours(upstream: str, ledger: str, workers: int, servers: int) -> Iterator[Ours]:
    """Start this proxy on a ledger of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = {"memory": "memory://", "SQLite": f"sqlite:///{folder}/ledger.db"}.get(ledger)
        url = url or stack.enter_context(redis(ALL_CORES, logged=True)) or sys.exit("no Redis, no figures")
        gateway = Ours(stack, upstream, url, workers, servers)
        gateway.name = f"ours, {ledger}"
        gateway.forgets = ledger == "memory"
        if workers * servers > 1:
            gateway.name += f", {workers} workers" + (f" on each of {servers} servers" if servers > 1 else "")
        yield gateway


def _nanousd(usd: float) -> int:
    return round(usd * NANOUSD_PER_USD)


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.02)
