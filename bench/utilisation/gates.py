"""The interface of a gate, which lets calls through while a budget lasts, and one that knows each count."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.utilisation.model import Call, Model


@dataclass(frozen=True)
class Reply:
    """The answer to a call, or its refusal, as the client got it."""

    text: str = ""
    tokens: int = 0
    """Of the completion, as the gate reports it."""
    is_cut: bool = False
    """Whether max_tokens ended the answer, as the gate reports it."""
    is_refused: bool = False
    """For good: `budget_exhausted`."""
    waits: int = 0
    """The number of answers with status 429 that came before."""


class Meter:
    """The upstream's bill, and the calls that it works on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.billed_nanousd = 0
        self.calls = 0

    def add(self, cost_nanousd: int) -> None:
        with self._lock:
            self.billed_nanousd += cost_nanousd
            self.calls += 1


class Gate(Protocol):
    """A gate under test. It has one run at a time."""

    meter: Meter
    """Counts what was billed since `begin`."""

    def begin(self, budget_nanousd: int) -> None:
        """Begin a new run with this budget."""

    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        """Make the calls at once. Returns when all of them have ended."""

    def held_nanousd(self) -> int:
        """The amount that is still held when no call is in flight."""


class ExactGate:
    """Knows the tokens of each prompt. Refuses a call only if it cannot have the shortest useful answer.

    Calls that are made at once go through one after another, so that each one knows what the others cost.
    """

    def __init__(self) -> None:
        self.meter = Meter()
        self._budget_nanousd = 0

    def begin(self, budget_nanousd: int) -> None:
        self.meter.reset()
        self._budget_nanousd = budget_nanousd

    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        return [self.send_one(model, call) for call in calls]

    def send_one(self, model: Model, call: Call) -> Reply:
        left_nanousd = self._budget_nanousd - self.meter.billed_nanousd
        if self.minimum_nanousd(model, call) > left_nanousd:
            return Reply(is_refused=True)
        prompt_tokens = model.prompt_tokens(call.messages)
        affordable = model.price.completion_tokens_for(left_nanousd, prompt_tokens)
        answer = model.answer(call.messages, min(call.allowed_tokens, affordable))
        self.meter.add(model.cost_nanousd(prompt_tokens, answer.tokens))
        return Reply(answer.content, answer.tokens, answer.is_cut)

    def minimum_nanousd(self, model: Model, call: Call) -> int:
        """The least that must be left for the call."""
        return model.minimum_nanousd(call)

    def held_nanousd(self) -> int:
        return 0
