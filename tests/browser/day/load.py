"""The runs of a simulated day: their models, calls and pauses. Equal seeds give equal runs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

DEEPSEEK = "deepseek-ai/DeepSeek-V3-0324"
KIMI = "moonshotai/Kimi-K2-Instruct"
GLM = "zai-org/GLM-4.5-FP8"
MODEL_PRICES = {
    DEEPSEEK: {"input": 0.27, "output": 1.1},
    KIMI: {"input": 0.6, "output": 2.5},
    GLM: {"input": 0.35, "output": 1.55},
}
MODEL_SHARES = {DEEPSEEK: 0.6, KIMI: 0.25, GLM: 0.15}

MINERS = {
    "miner:ada": 0.32,
    "miner:bell": 0.2,
    "miner:curie": 0.16,
    "miner:darwin": 0.13,
    "miner:euler": 0.11,
    "miner:franklin": 0.08,
}
"""The groups of the runs, with their shares."""

SHARES_BY_HOUR = (
    *(0.12, 0.1, 0.08, 0.08, 0.1, 0.14, 0.22, 0.38, 0.62, 0.84, 0.95, 1.0),
    *(0.66, 0.82, 0.96, 1.0, 0.97, 0.8, 0.6, 0.55, 0.5, 0.4, 0.28, 0.18),
)
"""The load of each hour (UTC) as a share of the peak: night, morning, lunch, afternoon, evening."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an agent, and the pause after it."""

    message_bytes: int
    """The size of the message that the agent adds to its conversation."""
    completion_tokens: int
    first_seconds: float
    answer_seconds: float
    think_seconds: float
    kind: str = "stream"
    """stream, whole, agents (the route of the agents), or embedding."""
    fault: str | None = None

    def message(self, text: str) -> str:
        """The message: a part of the text, and the directive for the fake Chutes."""
        asked: dict[str, object] = {"first_ms": round(1000 * self.first_seconds)}
        if self.kind != "embedding":
            asked |= {
                "hidden": self.completion_tokens,
                "hidden_per_second": 1_000_000,
                "events": EVENTS,
                "pause_ms": round(1000 * self.answer_seconds / EVENTS),
            }
        if self.fault:
            asked["fault"] = self.fault
        return f"{text[: self.message_bytes]} [[fake-chutes {json.dumps(asked)}]]"


EVENTS = 4
"""The events of an answer. More of them would only take time; the other tokens are not sent, but billed."""


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One run: its start, its limits, and its calls."""

    id: str
    starts_at: float
    model: str
    steps: tuple[Step, ...]
    group: str | None = None
    budget_usd: str | None = None
    calls_per_minute: int | None = None
    has_token: bool = True
    closes: bool = False
    """The main server closes the run after its last call."""


def load_share(at: float) -> float:
    """The load at a time as a share of the peak, without jumps between the hours."""
    hours = at % DAY / HOUR - 0.5
    before, part = math.floor(hours), hours % 1
    return (1 - part) * SHARES_BY_HOUR[before % 24] + part * SHARES_BY_HOUR[(before + 1) % 24]


def runs_between(random: Random, start: float, end: float, runs_per_minute: float) -> Iterator[AgentRun]:
    """Runs that arrive at random, as often as the load of the hour says."""
    at = start
    while (at := at + random.expovariate(runs_per_minute / MINUTE)) < end:
        if random.random() < load_share(at):
            yield one_run(random, at)


def one_run(random: Random, starts_at: float, max_calls: int = 44) -> AgentRun:
    """A run of an agent that works on a repository: its prompts grow from call to call."""
    model = choice(random, MODEL_SHARES)
    calls = random.randint(max(1, max_calls // 5), max_calls)
    return AgentRun(
        id=str(UUID(int=random.getrandbits(128), version=4)),
        starts_at=starts_at,
        model=model,
        steps=tuple(one_step(random, number) for number in range(calls)),
        group=choice(random, MINERS),
        has_token=random.random() < 0.9,
    )


def one_step(random: Random, number: int) -> Step:
    """The call with this number."""
    kind = choice(random, {"stream": 0.55, "whole": 0.2, "agents": 0.2, "embedding": 0.05})
    if kind == "embedding":
        return Step(random.randint(200, 1200), 0, random.uniform(0.05, 0.3), 0, random.uniform(1, 5), kind)
    tokens = round(random.lognormvariate(5.6, 0.7))
    step = Step(
        message_bytes=random.randint(800, 2_000) if number else random.randint(8_000, 20_000),
        completion_tokens=min(tokens, 900),
        first_seconds=random.lognormvariate(-0.4, 0.5),
        answer_seconds=tokens / random.uniform(35, 90),
        think_seconds=random.lognormvariate(2.2, 0.7),
        kind=kind,
    )
    if random.random() < 0.006:
        return replace(step, fault="at_capacity", first_seconds=0.2)
    return step


def choice(random: Random, shares: dict[str, float]) -> str:
    """One of the names, each as often as its share."""
    return random.choices(list(shares), list(shares.values()))[0]
