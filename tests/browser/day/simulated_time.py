"""Time that a process controls: a day passes as fast as its calls can be made."""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

NS_PER_SECOND = 1_000_000_000
BOOTED_SECONDS_AGO = 1000.0
"""The value of the monotonic clock at the start."""


class SimulatedTime:
    """The clock of the process, and the tasks that sleep until a time on it.

    The clock stands still while a task is busy. When all tasks sleep, it goes to the next time at which one
    of them wakes up. Timers of gevent and timeouts of sockets go on in real time.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._booted_at = now - BOOTED_SECONDS_AGO
        self._sleeping: list[tuple[float, int, Event]] = []
        self._order = count()
        self._busy = 0
        self.waiting: Callable[[], int] = lambda: 0
        """The number of busy tasks that wait for what another task does."""

    def install(self) -> None:
        """Replace the clocks of the `time` module. Call it before a module takes one of them as a default."""
        replaced: dict[str, Callable[..., Any]] = {
            "time": lambda: self.now,
            "time_ns": lambda: int(self.now * NS_PER_SECOND),
            "monotonic": self._monotonic,
            "monotonic_ns": lambda: int(self._monotonic() * NS_PER_SECOND),
            "perf_counter": self._monotonic,
            "clock_gettime": lambda _clock: self._monotonic(),
        }
        for name, clock in replaced.items():
            setattr(time, name, clock)

    def _monotonic(self) -> float:
        return self.now - self._booted_at

    def spawn(self, task: Callable[[], object], at: float) -> None:
        """Start a task at a time."""
        gevent.spawn(self._run, task, self._alarm_at(at))

    def sleep(self, seconds: float) -> None:
        """Let the calling task sleep."""
        alarm = self._alarm_at(self.now + seconds)
        self._busy -= 1
        alarm.wait()

    def run_until(self, end: float) -> None:
        """Let time pass until `end`. Tasks that sleep longer go on sleeping."""
        while True:
            self._await_sleep()
            if not self._sleeping or self._sleeping[0][0] > end:
                self.now = end
                return
            self.now, _, alarm = heapq.heappop(self._sleeping)
            self._busy += 1
            alarm.set()

    def _alarm_at(self, at: float) -> Event:
        alarm = Event()
        heapq.heappush(self._sleeping, (max(at, self.now), next(self._order), alarm))
        return alarm

    def _run(self, task: Callable[[], object], start: Event) -> None:
        start.wait()
        try:
            task()
        finally:
            self._busy -= 1

    def _await_sleep(self) -> None:
        """Wait until no task is busy; a turn of the event loop lets tasks read what was sent to them."""
        gevent.idle()
        while self._busy > self.waiting():
            gevent.sleep(0)
