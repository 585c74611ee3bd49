"""The queue for turns: groups take turns, and inside a group its runs. Its bytes have a limit."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gevent.event import Event

from ridges_proxy.errors import BodyQueueError

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITING_BYTES = 256 << 20
"""Maximum bytes of the bodies that wait for a turn."""


class Caller(NamedTuple):
    """Whom a step is for."""

    group: str
    """What the caller has proved: the run of its token, else its address."""
    run: str = ""
    """The run that it names, which may be any. Empty: it is not known yet."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One that waits for a turn."""

    caller: Caller
    size_bytes: int
    woken: Event = field(default_factory=Event)
    has_turn: bool = False
    error: Exception | None = None
    """Why the wait has ended without a turn."""

    def end(self, error: Exception) -> None:
        """End the wait with an error. Only the first one counts."""
        self.error = self.error or error
        self.woken.set()


class TurnQueue:
    """All that wait, in the order of their turns."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._groups: OrderedDict[str, OrderedDict[str, deque[Waiter]]] = OrderedDict()

    def __iter__(self) -> Iterator[Waiter]:
        """All that wait. The queue may change in between."""
        return iter([each for runs in self._groups.values() for waiters in runs.values() for each in waiters])

    def __contains__(self, waiter: Waiter) -> bool:
        """Whether it still waits for its turn."""
        group, run = waiter.caller
        return group in self._groups and waiter in self._groups[group].get(run, ())

    def add(self, waiter: Waiter) -> None:
        """Add it behind the others of its run.

        If the bytes are too many, the last of the run with the most bytes, in the group with the most, has to
        leave. Then its wait ends with BodyQueueError. So no group can fill the queue for the others.
        """
        runs = self._groups.setdefault(waiter.caller.group, OrderedDict())
        runs.setdefault(waiter.caller.run, deque()).append(waiter)
        self.waiting_bytes += waiter.size_bytes
        while self.waiting_bytes > WAITING_BYTES and waiter.error is None:
            largest = self._last_of_largest(waiter.caller)
            self.remove(largest)
            largest.end(BodyQueueError())

    def remove(self, waiter: Waiter) -> None:
        """Remove it, if it still is in the queue."""
        if waiter not in self:
            return
        group, run = waiter.caller
        runs = self._groups[group]
        waiters = runs[run]
        waiters.remove(waiter)
        self.waiting_bytes -= waiter.size_bytes
        if not waiters:
            del runs[run]
        if not runs:
            del self._groups[group]

    def next(self) -> Waiter | None:
        """Remove and return the next; None if the queue is empty.

        Then its group is the last, and so is its run in the group.
        """
        if not self._groups:
            return None
        waiter = next(iter(next(iter(self._groups.values())).values()))[0]
        self.remove(waiter)
        group, run = waiter.caller
        if group in self._groups:
            self._groups.move_to_end(group)
            if run in self._groups[group]:
                self._groups[group].move_to_end(run)
        return waiter

    def _last_of_largest(self, newest: Caller) -> Waiter:
        """Return the one that has to leave. Of several with the most bytes, it is the newest caller."""

        def largest(sizes: dict[str, int], newest_name: str) -> str:
            return max(sizes, key=lambda name: (sizes[name], name == newest_name))

        group = largest(
            {name: sum(map(_bytes_of, runs.values())) for name, runs in self._groups.items()}, newest.group
        )
        runs = self._groups[group]
        run = largest({name: _bytes_of(waiters) for name, waiters in runs.items()}, newest.run)
        return next(each for each in reversed(runs[run]) if each.size_bytes)


def _bytes_of(waiters: deque[Waiter]) -> int:
    return sum(each.size_bytes for each in waiters)
