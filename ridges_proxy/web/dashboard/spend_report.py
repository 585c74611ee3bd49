"""The spend of the last 30 days, added up from the receipts of forgotten runs and the runs of the ledger.

A run counts on the day of its last call. The report is of one worker. It is added up in the background when a
page asks for it, in slices, so that calls go on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.ledger import RunQuery
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.web.dashboard.spend_sums import SpendSums, day_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gevent import Greenlet

    from ridges_proxy.ledger import Ledger, RunUsage

MAX_DAYS = 30

PAGE_RECEIPTS = 100
"""Receipts that are read and added between two pauses."""

MAX_KNOWN_RUNS = 20_000
"""Runs of the ledger that are added, those with the most spent. It knows those of its last 20 minutes."""

RUNS_PER_PAUSE = 25

WAIT_SECONDS = 5.0
"""Time for which a page waits for a new report. Then it shows the one before, or that it is not ready."""

KEPT_TIMES = 10
"""A report is shown for so many times the time that it took, so it takes at most a tenth of the worker."""


@dataclass(frozen=True, slots=True)
class SpendReport:
    """The sums by day."""

    days: dict[int, SpendSums]
    """By the number of the UTC day since the epoch, only days with a run."""
    today: int
    known_runs: int
    """Runs of the ledger, of which at most MAX_KNOWN_RUNS are in the sums."""
    at: float
    """Time at which it was finished, in seconds since the epoch."""
    took_seconds: float

    def last_days(self, number: int) -> list[tuple[int, SpendSums]]:
        """The last days, oldest first, also those without a run."""
        days = range(self.today - number + 1, self.today + 1)
        return [(day, self.days.get(day) or SpendSums()) for day in days]

    def of_last_days(self, number: int) -> SpendSums:
        """The sums of the last days together. Other requests are served between the days."""
        whole = SpendSums()
        for _, sums in self.last_days(number):
            whole.add(sums)
            pause()
        return whole


@dataclass(slots=True)
class _Sums:
    """The sums by day while they are added up."""

    since: float
    days: dict[int, SpendSums] = field(default_factory=lambda: defaultdict(SpendSums))

    def add(self, run: RunUsage, active_at: float) -> None:
        """Add a run. Its last activity stands for its last call where that is not known."""
        last_call_at = run.detail.last_call_at if run.detail else None
        at = active_at if last_call_at is None else last_call_at
        if at >= self.since:
            self.days[day_of(at)].add_run(run)


class SpendReports:
    """The report of one process. One is added up at a time."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._monotonic = monotonic
        self._work: Greenlet[[], None] | None = None
        self._latest: SpendReport | None = None
        self._due_at = 0.0
        self._failure: Exception | None = None
        self.receipts = 0
        """Receipts that were read for the report that is being added up."""

    def latest(self) -> SpendReport | None:
        """The latest report. None: the first one is not ready yet. Raises LedgerUnavailableError."""
        if self._work is None and self._monotonic() >= self._due_at:
            self._work = gevent.spawn(self._renew)
        if self._work is not None:
            self._work.join(WAIT_SECONDS)
        if self._failure is not None:
            raise self._failure
        return self._latest

    def _renew(self) -> None:
        started_at = self._monotonic()
        self._failure = None
        try:
            days, today, known_runs = self._add_up()
        except Exception as error:  # noqa: BLE001 - raised by `latest`, for each request that waits
            self._failure = error
            return
        finally:
            self._work = None
        finished_at = self._monotonic()
        took_seconds = finished_at - started_at
        self._due_at = finished_at + KEPT_TIMES * took_seconds
        self._latest = SpendReport(days, today, known_runs, self._clock(), took_seconds)

    def _add_up(self) -> tuple[dict[int, SpendSums], int, int]:
        """The sums by day, the present day, and the number of known runs.

        The known runs are read before the receipts: a run that is forgotten in between is in both, and counts
        once, by its receipt.
        """
        now = self._clock()
        sums = _Sums(since=(day_of(now) - MAX_DAYS + 1) * DAY_SECONDS)
        page = self._ledger.list(RunQuery(limit=MAX_KNOWN_RUNS))
        known = {run.run_id: run for run in self._detailed(page.runs)}
        for run, active_at in self._forgotten(sums.since):
            if run.run_id in known and _are_one(known[run.run_id], run):
                del known[run.run_id]
            sums.add(run, active_at)
        for number, run in enumerate(known.values()):
            sums.add(run, now - run.idle_seconds)
            if number % PAGE_RECEIPTS == 0:
                pause()
        return dict(sums.days), day_of(now), page.total

    def _detailed(self, runs: Iterable[RunUsage]) -> Iterator[RunUsage]:
        """The runs with their detail. One that has been forgotten meanwhile has a receipt."""
        waiting = iter(runs)
        while batch := list(islice(waiting, RUNS_PER_PAUSE)):
            usages = [self._ledger.usage(run.run_id) for run in batch]
            yield from filter(None, usages)
            pause()

    def _forgotten(self, since: float) -> Iterator[tuple[RunUsage, float]]:
        """The runs of all receipts since then, each with the time of its last activity."""
        cursor: str | None = None
        self.receipts = 0
        while True:
            page = self._ledger.history(since, cursor, PAGE_RECEIPTS)
            for receipt in page.receipts:
                yield receipt.run, receipt.forgotten_at - receipt.run.idle_seconds
            self.receipts += len(page.receipts)
            if page.next_cursor is None:
                return
            cursor = page.next_cursor
            pause()


def _are_one(known: RunUsage, forgotten: RunUsage) -> bool:
    """Whether it is the same account, and not that of a run that was forgotten earlier and began again."""
    first_calls = [run.detail.first_call_at if run.detail else None for run in (known, forgotten)]
    return first_calls[0] is not None and first_calls[0] == first_calls[1]
