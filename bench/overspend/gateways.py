"""The interface of a gateway under test."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.http_request import MODEL
from bench.overspend.requests import CallKind, GatewayRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from bench.overspend.requests import GatewayRequest
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
