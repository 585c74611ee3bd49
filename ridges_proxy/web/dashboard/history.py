"""Samples of the metrics of all workers, one a minute for a day, for the dashboard's charts."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import gevent
import orjson

from ridges_proxy.web.dashboard.shared_lines import SharedLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ridges_proxy.telemetry.metrics import Metrics, Totals

MINUTE_SECONDS = 60
MAX_BYTES = 1 << 20
"""Size of each of two files. A sample takes about 300 bytes, so at least two days are kept."""

MAX_SLEEP_SECONDS = 1.0
"""So a clock that is set forward is noticed soon."""

WORKER_SECONDS, MAX_WORKERS_APART = 0.03, 16
"""Workers wake at different times after the turn of the minute. So usually only the first one samples."""

logger = logging.getLogger(__name__)


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
    process: int | None
    """The only process whose counters these are. None: they are those of all workers."""


class History:
    """Samples the metrics at the turn of each minute, in a greenlet of its own.

    The other background tasks may have to wait for the ledger. Of the workers, the first one that finds the
    sample due takes it. A second sample of the same time would change nothing.
    """

    def __init__(self, metrics: Metrics, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._lines = SharedLines(folder and folder / "samples.jsonl", MAX_BYTES)
        self._clock = clock
        self._sampled_minute: int | None = None

    @property
    def failure(self) -> str | None:
        """Why the samples of this worker are not shared."""
        return self._lines.failure

    def start(self) -> None:
        """Start the greenlet. Call it once, after the fork."""
        gevent.spawn(self._loop)

    def sample(self) -> None:
        """Store a sample unless there is one of the present minute."""
        minute = _minute_of(self._clock())
        if minute == self._sampled_minute:
            return
        last = next(self._latest(), None)
        if last is None or _minute_of(last.at) != minute:
            self._lines.add(orjson.dumps(self._current(), option=orjson.OPT_APPEND_NEWLINE))
        self._sampled_minute = minute

    def samples(self, span_seconds: float, totals: Totals | None = None) -> list[Sample]:
        """The samples of the last `span_seconds`, oldest first; the last one is of now.

        `totals` are the current totals, if the caller has them already: adding them up takes a while.
        """
        since = self._clock() - span_seconds
        kept = takewhile(lambda sample: sample.at >= since, self._latest())
        return [*reversed(list(kept)), self._current(totals)]

    def _current(self, totals: Totals | None = None) -> Sample:
        totals = totals or self._metrics.totals()
        return Sample(self._clock(), totals.usd, totals.calls, totals.durations, totals.process)

    def _latest(self) -> Iterator[Sample]:
        """All stored samples, newest first."""
        return (Sample(**orjson.loads(line)) for line in reversed(self._lines.read()))

    def _loop(self) -> None:
        after_turn_seconds = os.getpid() % MAX_WORKERS_APART * WORKER_SECONDS
        while True:
            try:
                self.sample()
            except Exception:
                # No exception may end the greenlet: no other one of this worker takes samples.
                logger.exception("sample of the metrics failed")
            until_turn_seconds = MINUTE_SECONDS - self._clock() % MINUTE_SECONDS
            gevent.sleep(min(MAX_SLEEP_SECONDS, until_turn_seconds + after_turn_seconds))


def _minute_of(at: float) -> int:
    return int(at // MINUTE_SECONDS)
