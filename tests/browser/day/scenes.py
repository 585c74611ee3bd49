"""The scenes of the pictures: a whole day, or half an hour with a given number of runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from tests.browser.day.load import (
    DAY,
    DEEPSEEK,
    GLM,
    HOUR,
    KIMI,
    MINUTE,
    MODEL_PRICES,
    AgentRun,
    Step,
    one_run,
    one_step,
    runs_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable

END = datetime(2026, 3, 10, 16, 47, 20, tzinfo=UTC).timestamp()
"""The time of the pictures: a Tuesday afternoon, when the load is high."""

RUNS_PER_MINUTE = 0.28
"""Runs that arrive at the peak of the day: about 8 calls a minute."""

BUDGETS = (
    {"name": "all", "usd": "30", "window": "day"},
    {"name": "miner", "usd": "2.5", "window": "day", "group": "miner:*"},
    {"name": "kimi", "usd": "40", "window": "week", "model": KIMI},
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Runs, and the time that passes with them until END."""

    seconds: float
    runs: tuple[AgentRun, ...]
    outage: tuple[float, float, str] | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def starts_at(self) -> float:
        """When the server has started."""
        return END - self.seconds


def busy_day() -> Scene:
    """A day of 24 hours."""
    random = Random("day")
    start = END - DAY
    runs = [*runs_between(random, start + MINUTE, END, RUNS_PER_MINUTE), *_at_the_end(random)]
    return Scene(DAY, tuple(runs), (END - 34 * MINUTE, END - 30 * MINUTE, DEEPSEEK), _settings("BUDGETS"))


def short_day() -> Scene:
    """The last half hour of the day, for a test."""
    random = Random("short")
    runs = [*runs_between(random, END - 29 * MINUTE, END, RUNS_PER_MINUTE), *_at_the_end(random)]
    return Scene(HOUR / 2, tuple(runs), None, _settings("BUDGETS"))


def many_runs(number: int) -> Scene:
    """A server of half an hour that knows so many runs, each with one or two short calls."""
    random = Random("runs")
    starts = sorted(random.uniform(END - HOUR / 2 + MINUTE, END - MINUTE) for _ in range(number))
    return Scene(
        HOUR / 2,
        tuple(_short_run(random, at) for at in starts),
        settings=(*_settings(), ("RUN_TTL_SECONDS", "86400")),
    )


SCENES: dict[str, Callable[[], Scene]] = {
    "day": busy_day,
    "0": lambda: many_runs(0),
    "5": lambda: many_runs(5),
    "3000": lambda: many_runs(3000),
    "short": short_day,
}


def _settings(*names: str) -> tuple[tuple[str, str], ...]:
    values = {"BUDGETS": json.dumps(BUDGETS), "MODEL_PRICES": json.dumps(MODEL_PRICES)}
    return tuple((name, values[name]) for name in ("MODEL_PRICES", *names))


def _short_run(random: Random, at: float) -> AgentRun:
    run = one_run(random, at, max_calls=2)
    steps = tuple(replace(step, kind="whole", message_bytes=400) for step in run.steps)
    return replace(run, steps=steps, group=None, has_token=False)


def _at_the_end(random: Random) -> list[AgentRun]:
    """The runs that an operator should notice."""
    return [
        replace(_named(random, "nearly-used-up", 26, calls=30), model=DEEPSEEK, budget_usd="0.088"),
        replace(_named(random, "near-its-budget", 24, calls=11), model=KIMI, budget_usd="0.048"),
        replace(_named(random, "exhausted", 22, calls=40), model=GLM, budget_usd="0.05"),
        replace(_named(random, "closed", 20, calls=9), closes=True),
        _hasty(random),
        *_in_flight(random),
        *_waiting(random),
    ]


def _named(random: Random, name: str, minutes_ago: float, calls: int) -> AgentRun:
    run = one_run(random, END - minutes_ago * MINUTE)
    steps = [replace(one_step(random, number), fault=None, think_seconds=25.0) for number in range(calls)]
    return replace(
        run,
        id=f"{name}-{random.getrandbits(32):08x}",
        group="miner:franklin",
        has_token=True,
        steps=tuple(steps),
    )


def _hasty(random: Random) -> AgentRun:
    """A run that calls more often than its token allows."""
    run = _named(random, "hasty", 12, calls=30)
    steps = tuple(
        replace(step, kind="whole", answer_seconds=0.6, completion_tokens=40, think_seconds=0.5)
        for step in run.steps
    )
    return replace(run, steps=steps, calls_per_minute=12)


def _in_flight(random: Random) -> list[AgentRun]:
    """Runs whose call is being answered when the pictures are taken."""
    seconds_ago = {DEEPSEEK: 41.0, KIMI: 17.0, GLM: 4.0}
    return [
        replace(
            one_run(random, END - ago),
            model=model,
            steps=(Step(16_000, 900, 2.0, 90.0, 1.0),),
            group="miner:euler",
        )
        for model, ago in seconds_ago.items()
    ]


def _waiting(random: Random) -> list[AgentRun]:
    """Two agents of one run. The second one's call waits for what the first one's holds."""
    first = replace(
        one_run(random, END - 25),
        id=f"two-agents-{random.getrandbits(32):08x}",
        model=DEEPSEEK,
        group="miner:curie",
        has_token=True,
        budget_usd="0.02",
        steps=(Step(60_000, 800, 3.0, 120.0, 1.0),),
    )
    return [first, replace(first, starts_at=END - 12)]
