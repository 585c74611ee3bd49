"""The figures on the dashboard's pages, computed from the ledger and the history."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.telemetry.metrics import OK
from ridges_proxy.web.dashboard.history import DAY_SECONDS, intervals_of, total_of
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.ledger import LevelUsage, RunUsage
    from ridges_proxy.web.dashboard.history import Interval, Sample

HOUR_SECONDS = 3600
SPANS = {"hour": (HOUR_SECONDS, 60), "day": (DAY_SECONDS, 144)}
"""A chart's time span in seconds, and its maximum number of intervals."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MIN_REFRESH_SECONDS, MAX_REFRESH_SECONDS = 2, 60

MAX_CODES = 8
"""The most frequent error codes get a line in the chart of errors."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a budget: the spent and the held part in percent; the rest is what remains."""

    spent: float
    held: float

    @classmethod
    def of(cls, usage: RunUsage | LevelUsage, amount_nanousd: int) -> Bar:
        """The bar of a usage. It is full if the calls cost more than the amount of the budget."""
        full_nanousd = max(amount_nanousd, usage.spent_nanousd + usage.held_nanousd, 1)
        return cls(100 * usage.spent_nanousd / full_nanousd, 100 * usage.held_nanousd / full_nanousd)


def usd(amount_nanousd: float) -> str:
    """An amount as text, to the millionth of a dollar."""
    return f"${amount_nanousd / NANOUSD_PER_USD:,.6f}"


def number_text(number: int) -> str:
    """A number of calls or tokens as text."""
    return f"{number:,}"


def duration_text(seconds: float) -> str:
    """A duration as text, in its largest unit."""
    for unit, length in (("d", DAY_SECONDS), ("h", HOUR_SECONDS), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def time_text(seconds: float) -> str:
    """A time in seconds since 1970 as text: day, month and time of day, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %H:%M:%S")


def span_totals(samples: list[Sample]) -> list[tuple[str, Interval]]:
    """The totals of the last hour and of the last day, each with its name."""
    return [
        (f"the last {name}", total_of(intervals_of(samples, seconds, max_intervals)))
        for name, (seconds, max_intervals) in SPANS.items()
    ]


def chart(span: str, samples: list[Sample]) -> dict[str, Any]:
    """The charts' data: times, USD per minute, calls per minute, errors per minute by code, latencies."""
    seconds, max_intervals = SPANS[span]
    intervals = intervals_of(samples, seconds, max_intervals)
    now = time.time()
    return {
        "since": now - seconds,
        "until": now,
        "times": [interval.ended_at for interval in intervals],
        "usd": [_per_minute(interval, interval.usd) for interval in intervals],
        "calls": [_per_minute(interval, sum(interval.calls.values())) for interval in intervals],
        "errors": {
            code: [_per_minute(interval, interval.calls.get(code, 0)) for interval in intervals]
            for code in _most_frequent_errors(intervals)
        },
        "latency": {
            name: [interval.quantile(share) for interval in intervals] for name, share in QUANTILES.items()
        },
    }


def health(samples: list[Sample]) -> dict[str, Any]:
    """The state of the ledger and the sweeper, and this server's upstream calls of the last ten minutes."""
    recent = total_of(intervals_of(samples, 600, 10))
    failed = sum(count for code, count in recent.calls.items() if code.startswith("upstream_"))
    tried = failed + recent.calls.get(OK, 0)
    return {
        "ledger_available": services().write_check.accepts_writes(),
        "upstream_tried": tried,
        "upstream_failed": failed,
        "outbox_settlements": services().outbox.kept(),
        "sweep_age_seconds": services().sweeper.age_seconds,
    }


def refresh_seconds(took_seconds: float) -> int:
    """The refresh interval of an open page, at which it takes at most a tenth of one worker's time."""
    return min(MAX_REFRESH_SECONDS, max(MIN_REFRESH_SECONDS, math.ceil(10 * took_seconds)))


def _most_frequent_errors(intervals: list[Interval]) -> list[str]:
    counts = Counter({code: count for code, count in total_of(intervals).calls.items() if code != OK})
    return sorted(code for code, _ in counts.most_common(MAX_CODES))


def _per_minute(interval: Interval, amount: float) -> float:
    return 60 * amount / interval.seconds if interval.seconds else 0.0
