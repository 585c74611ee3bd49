"""What the metrics were, minute by minute, for the dashboard's charts: of all workers, for a day."""

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
MOST_BYTES = 1 << 20
"""Of each of two files: a sample has some 300 bytes, so at least two days are kept."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at one moment, since the server started."""

    at: float
    """Seconds since 1970."""
    usd: float
    calls: dict[str, int]
    """By code."""
    durations: list[int]
    """How many calls took at most each of CALL_SECONDS, and all."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened from one sample to another."""

    ended_at: float
    seconds: float
    usd: float
    calls: dict[str, int]
    durations: list[int]

    def quantile(self, share: float) -> float | None:
        """How long this share of the calls took at most, in seconds, between the buckets' bounds."""
        rank = share * self.durations[-1]
        if not rank:
            return None
        below, bound = 0, 0.0
        for limit, count in zip(CALL_SECONDS, self.durations, strict=False):
            if count >= rank:
                return bound + (limit - bound) * (rank - below) / (count - below)
            below, bound = count, limit
        return CALL_SECONDS[-1]


class History:
    """Takes a sample a minute, whichever worker is first, and tells of the time between them."""

    def __init__(self, metrics: Metrics, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._lines = SharedLines(folder and folder / "history.jsonl", MOST_BYTES)
        self._clock = clock
        self._next_at = 0.0

    def sample(self) -> None:
        """Keep a sample, if the last is a minute old. Called once a second."""
        now = self._clock()
        if now < self._next_at:
            return
        last = next(self._latest(), None)
        if last and now - last.at < SAMPLE_SECONDS / 2:
            self._next_at = last.at + SAMPLE_SECONDS  # another worker's
            return
        self._next_at = now + SAMPLE_SECONDS
        self._lines.add(orjson.dumps(self._now(), option=orjson.OPT_APPEND_NEWLINE))

    def samples(self, span_seconds: float, totals: Totals | None = None) -> list[Sample]:
        """The samples of the last so many seconds, oldest first; the last is this moment's.

        Who has the totals of this moment gives them: to add them up takes a while.
        """
        since = self._clock() - span_seconds - SAMPLE_SECONDS
        kept = takewhile(lambda sample: sample.at >= since, self._latest())
        return [*reversed(list(kept)), self._now(totals)]

    def _now(self, totals: Totals | None = None) -> Sample:
        totals = totals or self._metrics.totals()
        return Sample(self._clock(), totals.usd, totals.calls, totals.durations)

    def _latest(self) -> Iterator[Sample]:
        """All samples that are kept, newest first."""
        return (Sample(**orjson.loads(line)) for line in reversed(self._lines.read()))


def intervals_of(samples: list[Sample], span_seconds: float, most: int) -> list[Interval]:
    """The last so many seconds of these samples, in at most so many pieces, oldest first."""
    *before, now = samples
    kept = [sample for sample in before if sample.at >= now.at - span_seconds - SAMPLE_SECONDS]
    if len(kept) > 1 and now.at - kept[-1].at < SAMPLE_SECONDS / 2:
        del kept[-1]  # too short a time to speak of so much a minute: it joins the one before
    step = -(-(len(kept) + 1) // most)
    return [_between(earlier, later) for earlier, later in pairwise([*kept[::step], now])]


def _between(earlier: Sample, later: Sample) -> Interval:
    calls = {code: count - earlier.calls.get(code, 0) for code, count in later.calls.items()}
    return Interval(
        ended_at=later.at,
        seconds=later.at - earlier.at,
        usd=later.usd - earlier.usd,
        calls={code: count for code, count in calls.items() if count},
        durations=[new - old for old, new in zip(earlier.durations, later.durations, strict=True)],
    )


def whole(intervals: list[Interval]) -> Interval:
    """All of them as one; of none, nothing."""
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
