"""The interface of a gateway under test, and the gateways of others."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.http_request import AUTHORIZATION, COMPLETIONS_PATH, EMBEDDING_PATH, INFERENCE_PATH, MODEL
from bench.overspend.outcome import NANOUSD_PER_TOKEN
from bench.overspend.requests import CallKind, GatewayRequest
from bench.peer_servers import LITELLM_MASTER_KEY, guide_service, litellm_proxy
from ridges_proxy.billing.money import NANOUSD_PER_USD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager, ExitStack

    from bench.overspend.shared_budgets import LevelKey, SharedBudget

MAX_TOKENS = 1024
"""Of the calls of `/v1`. Those of `/agents` have the same by default."""

ALL_CORES = os.sched_getaffinity(0)


@dataclass(frozen=True)
class Spending:
    """The amounts of a run, as its gateway reports them."""

    spent_nanousd: int
    held_nanousd: int = 0
    charged_calls: int = 0
    """0 if the gateway does not report it."""


@dataclass(frozen=True)
class Run:
    """A run, and how a request names it."""

    id: str
    budget_nanousd: int
    headers: dict[str, str]
    model: str = MODEL


class Gateway:
    """A running gateway. A scenario runs only if `kinds` and `abilities` list what it needs.

    The abilities are: `kill`, `reload`, `restart`, `set_budgets` and `losing_replies`, the methods below;
    `run_ids`, the caller chooses a run's id; `forget`, idle runs are forgotten; `cut`, answers that ignore
    max_tokens are cut.
    """

    name: str
    kinds: ClassVar[frozenset[CallKind]]
    abilities: frozenset[str] = frozenset()
    is_this_proxy: ClassVar[bool] = False
    loses_ledger = False
    """Whether its ledger is lost when its process ends."""

    @staticmethod
    def chat_body(run: Run, prompt: str, **fields: object) -> bytes:
        """The body of a chat with one message."""
        messages = [{"role": "user", "content": prompt}]
        return json.dumps({"model": run.model, "messages": messages, **fields}).encode()

    @classmethod
    def completions_body(cls, run: Run, kind: CallKind, prompt: str, **fields: object) -> bytes:
        """The body of a call of `/v1/chat/completions`."""
        defaults = {"stream": kind is CallKind.STREAM, "max_tokens": MAX_TOKENS}
        return cls.chat_body(run, prompt, **{**defaults, **fields})

    @staticmethod
    def embedding_body(run: Run, prompt: str) -> bytes:
        """The body of a call of `/agents/embedding`."""
        return json.dumps({"run_id": run.id, "input": prompt}).encode()

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        """A run with a budget of its own. The groups are for gateways that can `set_budgets`."""
        raise NotImplementedError

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        """A request of the run. The fields are added to a chat's body."""
        raise NotImplementedError

    def spending(self, run: Run) -> Spending | None:  # noqa: ARG002 - overridden by gateways that report it
        """The amounts of the run; None if the gateway does not report them."""
        return None

    def kill(self) -> None:
        """Kill its workers with SIGKILL, and wait until it serves again."""
        raise NotImplementedError

    def reload(self) -> None:
        """Let it reload its settings, and wait until it has."""
        raise NotImplementedError

    def restart(self) -> None:
        """Stop it as an operator does, start it again, and wait until it serves."""
        raise NotImplementedError

    def set_budgets(self, budgets: Sequence[SharedBudget]) -> None:
        """Replace all budgets that runs share, and wait until they apply."""
        raise NotImplementedError

    def levels(self, budgets: Sequence[SharedBudget]) -> dict[LevelKey, Spending] | None:
        """The amounts of all levels of these budgets; None if the gateway does not report them."""
        raise NotImplementedError

    def losing_replies(self) -> AbstractContextManager[Callable[[], int]]:
        """Lose replies of its ledger until the given function is called, which returns their number.

        Restarts the gateway at the beginning and at the end of the context.
        """
        raise NotImplementedError


class GuideService(Gateway):
    """The service that this proxy replaces. It has one budget for all runs, so each budget has a process."""

    name = "guide's service"
    kinds = frozenset({CallKind.AGENTS, CallKind.EMBEDDING})
    abilities = frozenset({"run_ids"})

    def __init__(self, stack: ExitStack, upstream_url: str, budgets_nanousd: Iterable[int]) -> None:
        self._servers = {
            budget_nanousd: stack.enter_context(
                guide_service(
                    upstream_url, ALL_CORES, MAX_COST_PER_RUN=f"{budget_nanousd / NANOUSD_PER_USD:.9f}"
                )
            )
            for budget_nanousd in budgets_nanousd
        }

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        del groups
        return Run(run_id or uuid.uuid4().hex, budget_nanousd, AUTHORIZATION)

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        port = self._servers[run.budget_nanousd].port
        headers = {"Content-Type": "application/json", **run.headers}
        if kind is CallKind.EMBEDDING:
            return GatewayRequest(EMBEDDING_PATH, self.embedding_body(run, prompt), headers, port=port)
        body = self.chat_body(run, prompt, run_id=run.id, **fields)
        return GatewayRequest(INFERENCE_PATH, body, headers, port=port)


class LiteLLM(Gateway):
    """LiteLLM's proxy without a database. Its budgets then belong to deployments, so each run has one."""

    name = "LiteLLM"
    kinds = frozenset({CallKind.WHOLE, CallKind.STREAM})

    def __init__(
        self, stack: ExitStack, upstream_url: str, budgets_nanousd: Iterable[int], runs_per_budget: int
    ) -> None:
        self._unused = {
            budget: [f"run-{budget}-{number}" for number in range(runs_per_budget)]
            for budget in budgets_nanousd
        }
        deployments = [
            _deployment(upstream_url, name, budget)
            for budget, names in self._unused.items()
            for name in names
        ]
        settings = {"telemetry": False, "num_retries": 0}
        config: dict[str, object] = {"model_list": deployments, "litellm_settings": settings}
        self._server = stack.enter_context(litellm_proxy(config, ALL_CORES))

    def new_run(self, budget_nanousd: int, run_id: str | None = None, groups: Sequence[str] = ()) -> Run:
        del run_id, groups  # a run is named by its deployment
        name = self._unused[budget_nanousd].pop()
        return Run(name, budget_nanousd, {"Authorization": f"Bearer {LITELLM_MASTER_KEY}"}, name)

    def request(self, run: Run, kind: CallKind, prompt: str, **fields: object) -> GatewayRequest:
        headers = {"Content-Type": "application/json", **run.headers}
        body = self.completions_body(run, kind, prompt, **fields)
        return GatewayRequest(COMPLETIONS_PATH, body, headers, port=self._server.port)


def _deployment(upstream_url: str, name: str, budget_nanousd: int) -> dict[str, object]:
    price_usd = NANOUSD_PER_TOKEN / NANOUSD_PER_USD
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{MODEL}",
            "api_base": f"{upstream_url}/v1",
            "api_key": "bench",
            "input_cost_per_token": price_usd,
            "output_cost_per_token": price_usd,
            "max_budget": budget_nanousd / NANOUSD_PER_USD,
            "budget_duration": "30d",
            "max_retries": 0,
        },
        "model_info": {"id": name},
    }
