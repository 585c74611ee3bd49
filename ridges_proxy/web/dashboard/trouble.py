"""Trouble that an operator should see at once: what is wrong, how bad it is, and where to look.

Where Prometheus has an alert for it too, the threshold is that of the alert (deploy/prometheus-alerts.yml).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ridges_proxy.errors import UpstreamDownError
from ridges_proxy.ledger import NEAR_PERCENT
from ridges_proxy.telemetry.metrics import OK
from ridges_proxy.web.dashboard.figures import duration_text, number_text, time_text
from ridges_proxy.web.dashboard.recent_calls import UPSTREAM, is_upstream_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ridges_proxy.web.dashboard.intervals import Interval

UPSTREAM_SECONDS = 600
"""The time of which the calls to the upstream are judged."""

MAX_FAILED_PART = 5
"""The upstream fails if more than one call in this many fails: more than 20 %."""

MIN_TRIED = 5
"""With fewer calls to the upstream, one that failed says nothing about the others."""

CALLS = "dashboard.show_calls"
"""The page of the calls, in flight and ended."""

BUDGETS = "dashboard.show_budgets"


class Tone(StrEnum):
    """How bad it is. Each tone has its colour and its icon."""

    BAD = "bad"
    """Calls fail or are refused, or figures are wrong."""
    WARN = "warn"
    """It may become bad."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong."""

    name: str
    """It says the same as long as the trouble lasts, so that a screen reader says it once."""
    detail: str
    tone: Tone
    endpoint: str = "dashboard.overview"
    """The page that has more about it."""
    query: Mapping[str, str] = field(default_factory=dict)
    anchor: str | None = None
    """The part of that page."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The calls to the upstream in the last UPSTREAM_SECONDS."""

    tried: int
    failed: int
    failing_since: float | None
    """Seconds since 1970; None if it does not fail."""
    code: str = ""
    """The most frequent code of the failed calls."""

    @classmethod
    def of(cls, intervals: Sequence[Interval], now: float) -> Upstream:
        """Count the calls to the upstream, and go back to the first minute in which too many failed."""
        recent = [interval.calls for interval in intervals if interval.since >= now - UPSTREAM_SECONDS]
        tried, failed = _tried_and_failed(recent)
        if tried < MIN_TRIED or not _is_failing(tried, failed):
            return cls(tried, sum(failed.values()), None)
        since = now
        for interval in reversed(intervals):
            calls = _tried_and_failed([interval.calls])
            if calls[0] and not _is_failing(*calls):
                break
            if calls[0]:
                since = interval.since
        return cls(tried, sum(failed.values()), since, failed.most_common(1)[0][0])


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that can be trouble."""

    upstream: Upstream
    circuits_open: int = 0
    down_models: Sequence[str] = ()
    """Names of models with an open circuit breaker, as far as this worker knows them."""
    accepts_writes: bool = True
    """Whether the ledger answers and accepts writes."""
    is_readable: bool = True
    """Whether the ledger has answered what this page asked."""
    settlements_kept: int = 0
    sweep_age_seconds: float | None = None
    sweep_late_after_seconds: float = 0.0
    webhook_fails: bool = False
    degraded: Mapping[str, str] = field(default_factory=dict)
    budgets_full: int = 0
    budgets_near: int = 0
    runs_near: int = 0
    waiting: int = 0


def troubles_of(facts: Facts) -> list[Trouble]:
    """All that is wrong, the worst first. Empty if all is well."""
    found = [*_of_upstream(facts), *_of_ledger(facts), *_of_server(facts), *_of_budgets(facts)]
    return sorted(found, key=lambda trouble: trouble.tone != Tone.BAD)


def _of_upstream(facts: Facts) -> Iterator[Trouble]:
    upstream = facts.upstream
    if upstream.failing_since is not None:
        detail = (
            f"{number_text(upstream.failed)} of {number_text(upstream.tried)} calls failed in the last"
            f" {duration_text(UPSTREAM_SECONDS)}, most with {upstream.code};"
            f" since {time_text(upstream.failing_since)} UTC"
        )
        yield Trouble("The upstream is failing", detail, Tone.BAD, CALLS, {"code": UPSTREAM})
    if facts.circuits_open:
        models = ", ".join(facts.down_models) or _counted(facts.circuits_open, "model")
        detail = f"calls to {models} are refused until one succeeds"
        yield Trouble("A circuit breaker is open", detail, Tone.BAD, CALLS, {"code": UpstreamDownError.code})


def _of_ledger(facts: Facts) -> Iterator[Trouble]:
    if not (facts.accepts_writes and facts.is_readable):
        refused = "it accepts no writes, so all calls are refused"
        detail = "it does not answer" if facts.accepts_writes else refused
        yield Trouble("The ledger is unavailable", detail, Tone.BAD, anchor="tiles")
    if facts.settlements_kept:
        detail = (
            f"{_counted(facts.settlements_kept, 'settlement')} in the outbox, until the ledger takes them"
        )
        yield Trouble("Settlements are waiting", detail, Tone.BAD, anchor="tiles")
    age_seconds = facts.sweep_age_seconds
    if age_seconds is not None and age_seconds > facts.sweep_late_after_seconds:
        detail = f"the last one was {duration_text(age_seconds)} ago, so expired holds are not charged"
        yield Trouble("The sweep is overdue", detail, Tone.BAD, anchor="tiles")


def _of_server(facts: Facts) -> Iterator[Trouble]:
    if facts.degraded:
        parts = ", ".join(part.replace("_", " ") for part in facts.degraded)
        reasons = ", ".join(sorted(set(facts.degraded.values())))
        detail = f"{parts}: those of one worker only ({reasons})"
        yield Trouble("The server works only in part", detail, Tone.WARN, anchor="tiles")
    if facts.webhook_fails:
        detail = "the webhook did not take the latest alert, which is sent again"
        yield Trouble("Alerts are not delivered", detail, Tone.BAD, BUDGETS)


def _of_budgets(facts: Facts) -> Iterator[Trouble]:
    if facts.budgets_full:
        detail = f"{_counted(facts.budgets_full, 'budget')}: calls that they cover are refused"
        yield Trouble("Budgets are used up", detail, Tone.BAD, BUDGETS, {"state": "full"})
    if facts.budgets_near:
        detail = _counted(facts.budgets_near, "budget")
        yield Trouble("Budgets are nearly used up", detail, Tone.WARN, BUDGETS, {"state": "near"})
    if facts.runs_near:
        detail = f"{_counted(facts.runs_near, 'run')} with at least {NEAR_PERCENT} % of the budget spent"
        yield Trouble("Runs are near their limit", detail, Tone.WARN, query={"state": "near"})
    if facts.waiting:
        detail = f"{_counted(facts.waiting, 'call')}, until other calls of the same budget end"
        yield Trouble("Calls are waiting", detail, Tone.WARN, CALLS)


def _tried_and_failed(calls: Iterable[Mapping[str, int]]) -> tuple[int, Counter[str]]:
    """How many calls to the upstream succeeded or failed, and those that failed, by code."""
    counts: Counter[str] = Counter()
    for of_interval in calls:
        counts.update(of_interval)
    failed = Counter({code: count for code, count in counts.items() if is_upstream_failure(code)})
    return sum(failed.values()) + counts[OK], failed


def _is_failing(tried: int, failed: Counter[str]) -> bool:
    return sum(failed.values()) * MAX_FAILED_PART > tried


def _counted(number: int, noun: str) -> str:
    return f"{number_text(number)} {noun}{'' if number == 1 else 's'}"
