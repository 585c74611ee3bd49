"""The number of calls in flight of one process, and its limit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.calls.in_flight import InFlightCall, await_end, interrupt_calls
from ridges_proxy.errors import DrainedError, DrainingError, OverloadedError, RunClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Admission:
    """Counts the calls in flight of one process. Refuses calls above the limit at once; never queues them."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls: set[InFlightCall] = set()
        self._calls_by_run: dict[str, set[InFlightCall]] = {}
        self._draining = False
        self._closed = False

    def check(self) -> None:
        """Raise DrainingError or OverloadedError if `enter` would raise it."""
        self.check_open()
        if len(self._calls) >= self._max_calls:
            raise OverloadedError

    def check_open(self) -> None:
        """Raise DrainingError if no new calls are admitted."""
        if self._closed:
            raise DrainingError

    @contextmanager
    def enter(self, run_id: str) -> Iterator[InFlightCall]:
        """Admit one call for as long as the context is open. Raises DrainingError or OverloadedError."""
        self.check()
        call = InFlightCall()
        calls_of_run = self._calls_by_run.setdefault(run_id, set())
        self._calls.add(call)
        calls_of_run.add(call)
        try:
            yield call
        finally:
            call.drop_interruption()
            self._calls.remove(call)
            calls_of_run.remove(call)
            if not calls_of_run:
                del self._calls_by_run[run_id]

    @property
    def in_flight(self) -> int:
        """The number of admitted calls that have not ended."""
        return len(self._calls)

    @property
    def draining(self) -> bool:
        """Whether the process is shutting down."""
        return self._draining

    def drain(self) -> None:
        """Report that the process is shutting down. Calls on open connections are still admitted."""
        self._draining = True

    def close(self) -> None:
        """Refuse all new calls, and end the waits for a hold with DrainingError: nothing was sent yet."""
        self._draining = self._closed = True
        interrupt_calls({call for call in self._calls if call.waits_for_hold}, DrainingError)

    def cut_all(self) -> None:
        """Interrupt all calls in flight with DrainedError."""
        interrupt_calls(self._calls, DrainedError)

    def end_all(self) -> None:
        """Interrupt all calls in flight, and wait until they have ended; at most 2 * END_SECONDS."""
        self.cut_all()
        await_end(self._calls)

    def end_run(self, run_id: str) -> None:
        """Interrupt the run's calls in flight with RunClosedError, and wait as `end_all` does."""
        calls = self._calls_by_run.get(run_id, set())
        interrupt_calls(calls, RunClosedError)
        await_end(calls)
