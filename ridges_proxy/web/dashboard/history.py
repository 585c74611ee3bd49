"""The metrics of all workers, minute by minute for a day, for the dashboard's charts."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.telemetry.metrics import CALL_SECONDS
from ridges_proxy.web.dashboard.shared_lines import SharedLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ridges_proxy.telemetry.metrics import Metrics, Totals

SAMPLE_SECONDS = 60.0
DAY_SECONDS = 86_400
MAX_BYTES = 1 << 20
"""Size of each of two files. A sample takes about 300 bytes, so at least two days are kept."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters' values at one time. They start at zero with the server."""

    at: float
    """Seconds since 1970."""
    usd: float
    calls: dict[str, int]
    """By code."""
    durations: list[int]
    """How many calls took at most each of CALL_SECONDS; the last value is the number of all calls."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The differences between two samples."""

    ended_at: float
    seconds: float
    usd: float
    calls: dict[str, int]
    durations: list[int]

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


class History:
    """Samples the metrics once a minute; the first worker that finds a sample due takes it."""

    def __init__(self, metrics: Metrics, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._lines = SharedLines(folder and folder / "history.jsonl", MAX_BYTES)
        self._clock = clock
        self._next_at = 0.0

    @property
    def failure(self) -> str | None:
        """Why the samples of this worker are not shared."""
        return self._lines.failure

    def sample(self) -> None:
        """Store a sample if the last one is a minute old. Called once a second."""
        now = self._clock()
        if now < self._next_at:
            return
        last = next(self._latest(), None)
        if last and now - last.at < SAMPLE_SECONDS / 2:
            self._next_at = last.at + SAMPLE_SECONDS  # another worker took it
            return
        self._next_at = now + SAMPLE_SECONDS
        self._lines.add(orjson.dumps(self._current(), option=orjson.OPT_APPEND_NEWLINE))

    def samples(self, span_seconds: float, totals: Totals | None = None) -> list[Sample]:
        """The samples of the last `span_seconds`, oldest first; the last one is of now.

        `totals` are the current totals, if the caller has them already: adding them up takes a while.
        """
        since = self._clock() - span_seconds - SAMPLE_SECONDS
        kept = takewhile(lambda sample: sample.at >= since, self._latest())
        return [*reversed(list(kept)), self._current(totals)]

    def _current(self, totals: Totals | None = None) -> Sample:
        totals = totals or self._metrics.totals()
        return Sample(self._clock(), totals.usd, totals.calls, totals.durations)

    def _latest(self) -> Iterator[Sample]:
        """All stored samples, newest first."""
        return (Sample(**orjson.loads(line)) for line in reversed(self._lines.read()))


def intervals_of(samples: list[Sample], span_seconds: float, max_intervals: int) -> list[Interval]:
    """The last `span_seconds` of the samples as at most `max_intervals` intervals, oldest first."""
    *stored, current = samples
    kept = [sample for sample in stored if sample.at >= current.at - span_seconds - SAMPLE_SECONDS]
    if len(kept) > 1 and current.at - kept[-1].at < SAMPLE_SECONDS / 2:
        del kept[-1]  # too short for a rate per minute: it is merged with the interval before it
    step = -(-(len(kept) + 1) // max_intervals)
    return [_between(earlier, later) for earlier, later in pairwise([*kept[::step], current])]


def _between(earlier: Sample, later: Sample) -> Interval:
    calls = {code: count - earlier.calls.get(code, 0) for code, count in later.calls.items()}
    return Interval(
        ended_at=later.at,
        seconds=later.at - earlier.at,
        usd=later.usd - earlier.usd,
        calls={code: count for code, count in calls.items() if count},
        durations=[new - old for old, new in zip(earlier.durations, later.durations, strict=True)],
    )


def total_of(intervals: list[Interval]) -> Interval:
    """The sum of the intervals; zeros if there are none."""
    if not intervals:
        return Interval(0.0, 0.0, 0.0, {}, [0] * (len(CALL_SECONDS) + 1))
    calls: Counter[str] = Counter()
    for interval in intervals:
        calls.update(interval.calls)
    durations = zip(*(interval.durations for interval in intervals), strict=True)
    return Interval(
        ended_at=intervals[-1].ended_at,
        seconds=sum(interval.seconds for interval in intervals),
        usd=sum(interval.usd for interval in intervals),
        calls=dict(calls),
        durations=[sum(counts) for counts in durations],
    )
