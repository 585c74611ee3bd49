"""The wait of a call for its hold, while other calls hold what it needs of its run or of a budget above it.

The queue of a run is in the ledger: there is one for all workers and machines. A budget above the runs has no
queue: a call that it refuses waits in the queue of its own run. Each waiting call asks the ledger
again: the first of this process often, the others once a second. A call of this process that ends wakes the
first of its run at once, so polls only find out about the calls of other processes.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gevent.event import Event

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.errors import LedgerUnavailableError, RunBusyError
from ridges_proxy.ledger import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.calls.in_flight import Client, InFlightCall
    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Hold, Ledger, Run, RunUsage
    from ridges_proxy.telemetry.metrics import Metrics

    Reserve = Callable[[Ticket | None], Hold]
    """Ask the ledger for the hold of a call."""

FIRST_POLL_SECONDS = 0.005
MAX_POLL_SECONDS = 0.04
"""A hold that another process settled let the next call go after 22 ms in the median and 47 ms at most, in
SQLite and in Redis (`bench/hold_wait.py`). A poll took 0.2 and 0.3 ms, so there are no notifications."""

POLL_SECONDS_PER_RUN = 0.001
"""With more than 40 waiting runs, the pause is longer, so that polls take at most a third of the process."""

LATER_POLL_SECONDS = 1.0
"""For calls that are not the first of their run in this process. They must only keep their place."""

MAX_SHARE_OF_RUN = 4
"""At most one in this many of the calls that a process admits may wait for the holds of one run."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """One waiting call."""

    ticket: Ticket
    place: int
    spendable_nanousd: int
    """The run's budget, without the part that this call must leave."""
    minimum_nanousd: int
    woken: Event = field(default_factory=Event)
    in_ledger: bool = True
    """Whether the ledger has the ticket in its queue."""


class HoldWaits:
    """The waits of one process."""

    def __init__(self, ledger: Ledger, admission: Admission, metrics: Metrics, settings: Settings) -> None:
        self._ledger = ledger
        self._admission = admission
        self._metrics = metrics
        self._wait_seconds = settings.hold_wait_seconds
        self._heartbeat_seconds = settings.heartbeat_seconds
        self._max_of_run = max(1, settings.max_concurrent_calls // MAX_SHARE_OF_RUN)
        self._by_run: dict[str, list[_Waiter]] = {}

    @property
    def waiting(self) -> int:
        """The number of calls that wait."""
        return sum(map(len, self._by_run.values()))

    def hold(
        self, run: Run, minimum_nanousd: int, reserve: Reserve, in_flight: InFlightCall, client: Client
    ) -> Generator[bytes, None, Hold]:
        """Return the hold of the call. Yields heartbeats while the call waits for its turn.

        Raises RunBusyError once the wait is over, and the errors of `reserve` and of `InFlightCall.waiting`.
        """
        if not self._wait_seconds or len(self._by_run.get(run.id, ())) >= self._max_of_run:
            return reserve(None)
        ticket = Ticket(secrets.token_hex(16), run.id)
        give_up_at = time.monotonic() + self._wait_seconds
        try:
            return reserve(ticket)
        except RunBusyError as busy:
            spendable_nanousd = run.budget_nanousd - run.reserved_nanousd
            waiter = _Waiter(ticket, busy.place or 0, spendable_nanousd, minimum_nanousd)
        with self._queued(waiter, in_flight):
            return (yield from self._wait(waiter, give_up_at, reserve, in_flight, client))

    def wake(self, run_id: str, usage: RunUsage | None) -> None:
        """Let the waiting calls of a run ask again after a hold of this process was resolved.

        These are the first call, and those that can never fit what `usage` leaves.
        """
        waiters = self._by_run.get(run_id)
        if not waiters:
            return
        _first(waiters).woken.set()
        spent_nanousd = 0 if usage is None else usage.spent_nanousd
        for waiter in waiters:
            if waiter.minimum_nanousd > waiter.spendable_nanousd - spent_nanousd:
                waiter.woken.set()

    def _wait(
        self,
        waiter: _Waiter,
        give_up_at: float,
        reserve: Reserve,
        in_flight: InFlightCall,
        client: Client,
    ) -> Generator[bytes, None, Hold]:
        pause_seconds = FIRST_POLL_SECONDS
        heartbeat_at = time.monotonic() + self._heartbeat_seconds
        while True:
            self._admission.check_open()
            now = time.monotonic()
            until_next = min(self._pause_seconds(waiter, pause_seconds), give_up_at - now, heartbeat_at - now)
            with in_flight.waiting(None, client):
                waiter.woken.wait(max(0.0, until_next))
            waiter.woken.clear()
            pause_seconds = min(2 * pause_seconds, MAX_POLL_SECONDS)
            try:
                return self._ask(waiter, reserve)
            except RunBusyError:
                if time.monotonic() >= give_up_at:
                    raise
            if time.monotonic() >= heartbeat_at:
                yield HEARTBEAT
                heartbeat_at = time.monotonic() + self._heartbeat_seconds

    def _ask(self, waiter: _Waiter, reserve: Reserve) -> Hold:
        """Ask the ledger again, and remember the place that it gives."""
        try:
            hold = reserve(waiter.ticket)
        except LedgerUnavailableError:
            raise
        except RunBusyError as busy:
            waiter.place = busy.place or 0
            raise
        except Exception:
            waiter.in_ledger = False
            raise
        waiter.in_ledger = False
        return hold

    def _pause_seconds(self, waiter: _Waiter, pause_seconds: float) -> float:
        if waiter is not _first(self._by_run[waiter.ticket.run_id]):
            return LATER_POLL_SECONDS
        return max(pause_seconds, len(self._by_run) * POLL_SECONDS_PER_RUN)

    @contextmanager
    def _queued(self, waiter: _Waiter, in_flight: InFlightCall) -> Iterator[None]:
        """Count the call as waiting. At the end it leaves the ledger's queue, and the next call may go."""
        run_id = waiter.ticket.run_id
        self._by_run.setdefault(run_id, []).append(waiter)
        in_flight.waits_for_hold = True
        started_at = time.monotonic()
        try:
            yield
        finally:
            in_flight.waits_for_hold = False
            in_flight.hold_wait_seconds = time.monotonic() - started_at
            self._metrics.hold_wait_seconds.observe(in_flight.hold_wait_seconds)
            if waiter.in_ledger:
                with suppress(LedgerUnavailableError):  # the ledger removes it within TICKET_SECONDS
                    self._ledger.leave(waiter.ticket)
            waiters = self._by_run[run_id]
            waiters.remove(waiter)
            if not waiters:
                del self._by_run[run_id]
            self.wake(run_id, None)


def finished(hold: Generator[bytes, None, Hold]) -> Hold:
    """Run a wait to its end, without its heartbeats."""
    while True:
        try:
            next(hold)
        except StopIteration as end:
            found: Hold = end.value
            return found


def _first(waiters: list[_Waiter]) -> _Waiter:
    """The call that the ledger serves first."""
    return min(waiters, key=lambda waiter: waiter.place)
