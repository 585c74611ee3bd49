"""One agent with one budget through a gate, compared with the same agent through the exact gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.utilisation.agents import AGENTS
from bench.utilisation.gates import ExactGate
from bench.utilisation.texts import Writer

if TYPE_CHECKING:
    from bench.utilisation.agents import Agent
    from bench.utilisation.gates import Gate, Reply
    from bench.utilisation.model import Call, Model

MAX_OVERSPEND = 3
"""An agent that was never refused ends when it has used its budget so many times."""


@dataclass(frozen=True)
class Case:
    """An agent: its kind, its model with the price and the tokenizer, its budget and its seed."""

    kind: str
    model: Model
    budget_nanousd: int
    seed: int

    def agent(self) -> Agent:
        """A new agent. Each case has texts of its own, so that no run learns from another one."""
        return AGENTS[self.kind](Writer(f"{self.kind} {self.model.name} {self.seed}"))


@dataclass(frozen=True)
class Result:
    """The figures of an agent."""

    budget_nanousd: int
    exact_nanousd: int
    """The amount that the exact gate let the agent use."""
    billed_nanousd: int
    calls: int
    """That the upstream answered."""
    refused: int = 0
    """Calls refused for good although they would have fitted."""
    cut: int = 0
    """Answers cut short although the rest of them would have fitted."""
    waits: int = 0
    """Answers with status 429."""
    held_nanousd: int = 0
    """With no call in flight."""

    @property
    def utilisation(self) -> float:
        """The used share. At most 1: calls at once may arrive in an order that fits better."""
        return min(1.0, self.billed_nanousd / self.exact_nanousd)

    @property
    def overspend_nanousd(self) -> int:
        return max(0, self.billed_nanousd - self.budget_nanousd)


def run_case(case: Case, gate: Gate, exact_nanousd: int) -> Result:
    """Let the agent work until a call is refused for good."""
    agent, model = case.agent(), case.model
    gate.begin(case.budget_nanousd)
    refused = cut = waits = 0
    calls = next(agent)
    while True:
        replies = gate.send(model, calls)
        left_nanousd = case.budget_nanousd - gate.meter.billed_nanousd
        pairs = list(zip(calls, replies, strict=True))
        refused += sum(_would_have_fitted(model, *pair, left_nanousd) for pair in pairs)
        cut += sum(_was_cut_early(model, *pair, left_nanousd) for pair in pairs)
        waits += sum(reply.waits for reply in replies)
        is_over = any(reply.is_refused for reply in replies)
        if is_over or left_nanousd < -(MAX_OVERSPEND - 1) * case.budget_nanousd:
            break
        calls = agent.send([reply.text for reply in replies])
    agent.close()
    return Result(
        case.budget_nanousd,
        exact_nanousd,
        gate.meter.billed_nanousd,
        gate.meter.calls,
        refused,
        cut,
        waits,
        gate.held_nanousd(),
    )


def exact_nanousd(case: Case) -> int:
    """The amount that the exact gate lets the agent use."""
    return run_case(case, ExactGate(), 1).billed_nanousd


def _would_have_fitted(model: Model, call: Call, reply: Reply, left_nanousd: int) -> bool:
    return reply.is_refused and model.minimum_nanousd(call) <= left_nanousd


def _was_cut_early(model: Model, call: Call, reply: Reply, left_nanousd: int) -> bool:
    if not reply.is_cut:
        return False
    missing_tokens = model.answer(call.messages, call.allowed_tokens).tokens - reply.tokens
    return missing_tokens > 0 and model.cost_nanousd(0, missing_tokens) <= left_nanousd
