"""The data of the dashboard's charts: what was counted in each bar, never a rate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.telemetry.metrics import OK
from ridges_proxy.web.dashboard.intervals import Interval, bars_of, total_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Measures = dict[str, Callable[[Interval], float | None]]
    """How to get each of the values of a chart from what was counted."""
HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a chart shows. Its length is a multiple of that of its bars."""

    seconds: int
    bar_seconds: int
    bar_text: str
    """The time of a bar, as the captions say it after "per"."""


SPANS = {"hour": Span(HOUR_SECONDS, 60, "minute"), "day": Span(DAY_SECONDS, 600, "10 minutes")}
MAX_SPAN_SECONDS = DAY_SECONDS + 600
"""The length of the longest chart, with its last bar, which is of the present time."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

MAX_CODES = 5
"""The most frequent error codes are counted each on its own, as many as one can tell apart in a chart."""

OTHER_CODES = "other codes"


def chart(span: str, intervals: Sequence[Interval], now: float) -> dict[str, Any]:
    """The data of all charts: the start of each bar, and pairs of a name and its values, in their order.

    A value is None if nothing is known of the time of its bar, and a latency also without calls.
    """
    chosen = SPANS[span]
    bars = bars_of(intervals, now, chosen.seconds, chosen.bar_seconds)
    known = [counted for counted in bars.counted if counted]

    def values(measures: Measures) -> list[tuple[str, list[float | None]]]:
        return [
            (name, [None if counted is None else measure(counted) for counted in bars.counted])
            for name, measure in measures.items()
        ]

    return {
        "now": now,
        "bar_seconds": bars.seconds,
        "bar_text": chosen.bar_text,
        "times": bars.starts,
        "usd": values({"USD": _usd}),
        "calls": values({"succeeded": partial(_calls, codes={OK}), "failed": _failed}),
        "errors": values(_errors(known)),
        "latency": values(
            {name: partial(Interval.quantile, share=share) for name, share in QUANTILES.items()}
        ),
        "unplaced": [
            {"since": found.since, "until": found.until, "usd": found.usd, "calls": sum(found.calls.values())}
            for found in bars.unplaced
        ],
    }


def total_since(intervals: Sequence[Interval], since: float) -> Interval:
    """The counts from the first sample after this time until now; zeros if nothing is known."""
    found = [interval for interval in intervals if interval.since >= since]
    return total_of(found) or Interval(since, since, 0.0, {}, [0])


def _usd(counted: Interval) -> float:
    return counted.usd


def _calls(counted: Interval, codes: Collection[str]) -> int:
    return sum(counted.calls.get(code, 0) for code in codes)


def _failed(counted: Interval) -> int:
    return sum(count for code, count in counted.calls.items() if code != OK)


def _errors(known: Sequence[Interval]) -> Measures:
    """How to count the most frequent error codes, and all others together."""
    total = total_of(known)
    counts = Counter({code: count for code, count in total.calls.items() if code != OK} if total else {})
    frequent = sorted(code for code, _ in counts.most_common(MAX_CODES))
    measures: Measures = {code: partial(_calls, codes={code}) for code in frequent}
    if others := counts.keys() - frequent:
        measures[OTHER_CODES] = partial(_calls, codes=others)
    return measures
