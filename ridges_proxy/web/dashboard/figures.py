"""What the pages show, from books and history."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.telemetry.metrics import OK
from ridges_proxy.web.dashboard.history import DAY_SECONDS, intervals_of, whole
from ridges_proxy.web.routes.health import ledger_answers
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.ledger import RunUsage
    from ridges_proxy.web.dashboard.history import Interval, Sample

HOUR_SECONDS = 3600
SPANS = {"hour": (HOUR_SECONDS, 60), "day": (DAY_SECONDS, 144)}
"""How long a chart's time is, and in how many pieces."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LEAST_REFRESH_SECONDS, MOST_REFRESH_SECONDS = 2, 60

MOST_CODES = 8
"""Lines of errors in a chart: the most frequent."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A run's cap as a bar of 100: spent, held, and the rest."""

    spent: float
    held: float

    @classmethod
    def of(cls, books: RunUsage) -> Bar:
        """Shares of the cap; a run that cost more than its cap has a full bar."""
        whole_nanousd = max(books.budget_nanousd, books.spent_nanousd + books.held_nanousd, 1)
        return cls(100 * books.spent_nanousd / whole_nanousd, 100 * books.held_nanousd / whole_nanousd)


def usd(amount_nanousd: float) -> str:
    """An amount for people, to the millionth of a dollar."""
    return f"${amount_nanousd / NANOUSD_PER_USD:,.6f}"


def span_of_time(seconds: float) -> str:
    """A time in its largest unit."""
    for unit, length in (("d", DAY_SECONDS), ("h", HOUR_SECONDS), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float) -> str:
    """A time since 1970 as a day and an hour, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %H:%M:%S")


def spans(samples: list[Sample]) -> list[tuple[str, Interval]]:
    """What the last hour and the last day were."""
    return [
        (f"the last {name}", whole(intervals_of(samples, seconds, pieces)))
        for name, (seconds, pieces) in SPANS.items()
    ]


def chart(span: str, samples: list[Sample]) -> dict[str, Any]:
    """The lines of the charts: times, USD and calls a minute, errors a minute by code, latencies."""
    seconds, pieces = SPANS[span]
    intervals = intervals_of(samples, seconds, pieces)
    now = time.time()
    return {
        "since": now - seconds,
        "until": now,
        "times": [interval.ended_at for interval in intervals],
        "usd": [_a_minute(interval, interval.usd) for interval in intervals],
        "calls": [_a_minute(interval, sum(interval.calls.values())) for interval in intervals],
        "errors": {
            code: [_a_minute(interval, interval.calls.get(code, 0)) for interval in intervals]
            for code in _most_frequent_errors(intervals)
        },
        "latency": {
            name: [interval.quantile(share) for interval in intervals] for name, share in QUANTILES.items()
        },
    }


def health(samples: list[Sample]) -> dict[str, Any]:
    """How the upstream and the ledger do, as far as this server has seen in the last ten minutes."""
    recent = whole(intervals_of(samples, 600, 10))
    failed = sum(count for code, count in recent.calls.items() if code.startswith("upstream_"))
    tried = failed + recent.calls.get(OK, 0)
    return {
        "ledger_answers": ledger_answers(),
        "upstream_tried": tried,
        "upstream_failed": failed,
        "settlements_kept": services().outbox.kept(),
        "sweep_age_seconds": services().sweeper.age_seconds,
    }


def refresh_seconds(took_seconds: float) -> int:
    """How often an open page looks for news: so that it takes a tenth of one worker's time at most."""
    return min(MOST_REFRESH_SECONDS, max(LEAST_REFRESH_SECONDS, math.ceil(10 * took_seconds)))


def _most_frequent_errors(intervals: list[Interval]) -> list[str]:
    counts = Counter({code: count for code, count in whole(intervals).calls.items() if code != OK})
    return sorted(code for code, _ in counts.most_common(MOST_CODES))


def _a_minute(interval: Interval, amount: float) -> float:
    return 60 * amount / interval.seconds if interval.seconds else 0.0
