"""The gateways that are measured: how each is started, asked, killed, and how its books are read."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.overspend.asks import Ask, Kind
from bench.overspend.outcome import NANOUSD_PER_TOKEN
from bench.processes import ROOT, free_port, process, wait_for_port
from bench.servers import PROXY_KEY
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

MODEL = "deepseek-ai/DeepSeek-V3-0324"
MAX_TOKENS = 1024
"""What a client of /v1 asks for; it is what calls of /agents have."""

START_SECONDS = 120.0
MASTER_KEY = "sk-bench-0123456789abcdef0123456789"
PEERS = ROOT / "bench" / ".peers" / "venv" / "bin" / "python"
"""Their own environment, which `python -m bench.peers` makes."""

ALL_CORES = os.sched_getaffinity(0)


@dataclass(frozen=True)
class Books:
    """A run's books in nano-USD, as its gateway tells them."""

    spent_nanousd: int
    held_nanousd: int = 0
    calls: int = 0
    """That were charged; 0 where it does not tell."""


@dataclass(frozen=True)
class Run:
    """A run, and how it is named to its gateway."""

    id: str
    budget_nanousd: int
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

    def run(self, budget_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        """Begin a run with a cap of its own."""
        raise NotImplementedError

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        """A request of the run; the fields go beside the prompt."""
        raise NotImplementedError

    def books(self, run: Run) -> Books | None:  # noqa: ARG002 - of none that tells nothing
        """What it says that the run has spent; None if it does not say."""
        return None

    def kill(self) -> None:
        """Kill it, or its workers, with SIGKILL, and wait until it serves again."""
        raise NotImplementedError

    def reload(self) -> None:
        """Have it read its settings anew, and wait until it has."""
        raise NotImplementedError


class GuideService(Gateway):
    """The service that this one replaces: its caps are of one size, so there is a process for each size."""

    name = "guide's service"
    kinds = frozenset({Kind.AGENTS, Kind.EMBEDDING})
    can = frozenset({"names"})

    def __init__(self, stack: ExitStack, upstream: str, caps_nanousd: Iterable[int]) -> None:
        self._ports: dict[int, int] = {}
        for budget_nanousd in caps_nanousd:
            port = self._ports[budget_nanousd] = free_port()
            settings = {
                **os.environ,
                "PROXY_API_KEY": PROXY_KEY,
                "CHUTES_API_KEY": "bench",
                "CHUTES_BASE_URL": f"{upstream}/v1",
                "CHUTES_EMBEDDING_URL": f"{upstream}/embed",
                "MAX_COST_PER_RUN": f"{budget_nanousd / NANOUSD_PER_USD:.9f}",
            }
            command = [str(PEERS), "-m", "uvicorn", "bench.guide_service:app", "--port", str(port)]
            stack.enter_context(process(command, settings, ALL_CORES))
        for port in self._ports.values():
            wait_for_port(port, START_SECONDS)

    def run(self, budget_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        del by_token  # it knows one key
        return Run(run_id or uuid.uuid4().hex, budget_nanousd, (("Authorization", f"Bearer {PROXY_KEY}"),))

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        port = self._ports[run.budget_nanousd]
        if kind is Kind.EMBEDDING:
            body = {"run_id": run.id, "input": prompt}
            return Ask(port, "/agents/embedding", json.dumps(body).encode(), headers)
        return Ask(port, "/agents/inference", self.chat(run, prompt, run_id=run.id, **fields), headers)


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
                    "input_cost_per_token": NANOUSD_PER_TOKEN / NANOUSD_PER_USD,
                    "output_cost_per_token": NANOUSD_PER_TOKEN / NANOUSD_PER_USD,
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
        wait_for_port(self._port, START_SECONDS)

    def run(self, budget_nanousd: int, run_id: str | None = None, *, by_token: bool = True) -> Run:
        del run_id, by_token  # a deployment's budget is all that it has
        name = self._free[budget_nanousd].pop()
        return Run(name, budget_nanousd, (("Authorization", f"Bearer {MASTER_KEY}"),), name)

    def ask(self, run: Run, kind: Kind, prompt: str, **fields: object) -> Ask:
        headers = {"Content-Type": "application/json", **dict(run.headers)}
        whole = self.chat(run, prompt, **{"stream": kind is Kind.STREAM, "max_tokens": MAX_TOKENS, **fields})
        return Ask(self._port, "/v1/chat/completions", whole, headers)
