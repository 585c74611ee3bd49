"""The counts between two samples of the metrics, and those of each bar of a chart.

Nothing is estimated. What was counted between two samples belongs to a bar of a chart only if both samples
were taken within the time of the bar; otherwise it is in no bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from operator import sub
from typing import TYPE_CHECKING

from ridges_proxy.telemetry.metrics import CALL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ridges_proxy.web.dashboard.history import Sample

LATE_SECONDS = 5.0
"""A sample that is due at the turn of a minute may be this late, on a busy machine. A call in this time then
counts in the minute before."""

USD_PRECISION = 1e-9
"""The unit of amounts. Sums of floats differ by less if they are added up in another order."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The calls that were counted from one time to another, in seconds since 1970."""

    since: float
    until: float
    usd: float
    calls: dict[str, int]
    """By code."""
    durations: list[int]
    """How many calls took at most each of CALL_SECONDS; the last value is the number of all calls."""

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that this share of the calls did not exceed, interpolated in its bucket."""
        rank = share * self.durations[-1]
        if not rank:
            return None
        below, lower_bound = 0, 0.0
        for upper_bound, count in zip(CALL_SECONDS, self.durations, strict=False):
            if count >= rank:
                return lower_bound + (upper_bound - lower_bound) * (rank - below) / (count - below)
            below, lower_bound = count, upper_bound
        return CALL_SECONDS[-1]


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of a chart."""

    seconds: int
    """The length of each."""
    starts: list[int]
    """Seconds since 1970, multiples of the length. The last bar has not ended yet."""
    counted: list[Interval | None]
    """None: nothing is known about this time, for example because the server was not running."""
    unplaced: list[Interval]
    """The counts of times that are in no bar, because it is not known to which one it belongs."""


def intervals_of(samples: Iterable[Sample]) -> list[Interval]:
    """The counts between each two samples. Pairs that cannot be compared are left out.

    After a clock was set back, the samples that seem to be of the future are ignored.
    """
    kept: list[Sample] = []
    for sample in reversed([*samples]):
        if not kept or sample.at < kept[-1].at:
            kept.append(sample)
    found = (_between(earlier, later) for earlier, later in pairwise(reversed(kept)))
    return [interval for interval in found if interval]


def bars_of(intervals: Sequence[Interval], now: float, span_seconds: int, bar_seconds: int) -> Bars:
    """The bars of the last `span_seconds`, and of the present time."""
    last_start = _start_of(now, bar_seconds)
    starts = range(last_start - span_seconds, last_start + 1, bar_seconds)
    by_start: dict[int, list[Interval]] = {start: [] for start in starts}
    unplaced = []
    for interval in intervals:
        start = _start_of(interval.since, bar_seconds)
        if interval.until >= start + bar_seconds + LATE_SECONDS:
            unplaced.append(interval)
        elif start in by_start:
            by_start[start].append(interval)
    counted = [total_of(found) for found in by_start.values()]
    return Bars(
        bar_seconds,
        [*starts],
        counted,
        [
            interval
            for interval in unplaced
            if interval.until > starts[0] and (interval.calls or interval.usd)
        ],
    )


def total_of(intervals: Sequence[Interval]) -> Interval | None:
    """The sum of the intervals; None if there are none."""
    if not intervals:
        return None
    calls: dict[str, int] = {}
    for interval in intervals:
        for code, count in interval.calls.items():
            calls[code] = calls.get(code, 0) + count
    durations = zip(*(interval.durations for interval in intervals), strict=True)
    return Interval(
        since=intervals[0].since,
        until=intervals[-1].until,
        usd=sum(interval.usd for interval in intervals),
        calls=calls,
        durations=[*map(sum, durations)],
    )


def _start_of(at: float, bar_seconds: int) -> int:
    return int(at // bar_seconds) * bar_seconds


def _between(earlier: Sample, later: Sample) -> Interval | None:
    """The difference of two samples. None: they are of different counters, or these have begun again."""
    usd = later.usd - earlier.usd
    if earlier.process != later.process or usd < -USD_PRECISION or earlier.calls.keys() - later.calls.keys():
        return None
    calls = {}
    for code, count in later.calls.items():
        if added := count - earlier.calls.get(code, 0):
            calls[code] = added
    durations = [*map(sub, later.durations, earlier.durations)]
    if min(durations) < 0 or (calls and min(calls.values()) < 0):
        return None
    return Interval(earlier.at, later.at, max(0.0, usd), calls, durations)
