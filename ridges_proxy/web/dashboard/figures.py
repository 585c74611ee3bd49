"""The figures on the dashboard's pages, computed from the ledger and the history."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.web.dashboard.chart_data import HOUR_SECONDS, SPANS, total_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridges_proxy.ledger import LevelUsage, RunUsage
    from ridges_proxy.web.dashboard.intervals import Interval

MIN_REFRESH_SECONDS, MAX_REFRESH_SECONDS = 2, 60


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


def span_totals(intervals: Sequence[Interval], now: float) -> list[tuple[str, Interval]]:
    """The totals of the last hour and of the last day, each with its name."""
    return [(f"the last {name}", total_since(intervals, now - span.seconds)) for name, span in SPANS.items()]


def refresh_seconds(took_seconds: float) -> int:
    """The refresh interval of an open page, at which it takes at most a tenth of one worker's time."""
    return min(MAX_REFRESH_SECONDS, max(MIN_REFRESH_SECONDS, math.ceil(10 * took_seconds)))
