"""The queues of a ledger in memory: the calls of each run that wait for a hold, first come, first served."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ridges_proxy.ledger.models import TICKET_SECONDS, Turn

if TYPE_CHECKING:
    from ridges_proxy.ledger.models import Ticket


class RunQueues:
    """The queues of all runs. Use it only under the ledger's lock."""

    def __init__(self) -> None:
        self._queues: dict[str, OrderedDict[str, _Place]] = {}
        self._last_number = 0

    def turn(self, run_id: str, ticket: Ticket | None, now: float) -> Turn:
        """Return the position of a call in the queue of its run. Removes calls that have disappeared."""
        queue = self._queues.get(run_id)
        if queue is None:
            return Turn()
        self._remove_unseen(run_id, queue, now)
        own = None if ticket is None else ticket.id
        return Turn(is_next=next(iter(queue), own) == own, waits=own in queue)

    def enter(self, ticket: Ticket, now: float) -> int:
        """Add a call to the end of the queue, or record that it still waits. Returns its place."""
        queue = self._queues.setdefault(ticket.run_id, OrderedDict())
        place = queue.get(ticket.id)
        if place is None:
            self._last_number += 1
            place = queue[ticket.id] = _Place(self._last_number)
        place.seen_at = now
        return place.number

    def leave(self, ticket: Ticket) -> None:
        """Remove a call from the queue, if it is there."""
        queue = self._queues.get(ticket.run_id)
        if queue is not None:
            queue.pop(ticket.id, None)
            self._remove_if_empty(ticket.run_id, queue)

    def waiting(self, run_id: str, now: float) -> int:
        """Return the number of calls in the queue, without those that have disappeared."""
        queue = self._queues.get(run_id)
        return sum(place.seen_at > now - TICKET_SECONDS for place in queue.values()) if queue else 0

    def sweep(self, now: float) -> None:
        """Remove calls that have disappeared from the front of each queue."""
        for run_id, queue in list(self._queues.items()):
            self._remove_unseen(run_id, queue, now)

    def _remove_unseen(self, run_id: str, queue: OrderedDict[str, _Place], now: float) -> None:
        while queue and next(iter(queue.values())).seen_at <= now - TICKET_SECONDS:
            queue.popitem(last=False)
        self._remove_if_empty(run_id, queue)

    def _remove_if_empty(self, run_id: str, queue: OrderedDict[str, _Place]) -> None:
        if not queue:
            del self._queues[run_id]


class _Place:
    """The place of one call."""

    __slots__ = ("number", "seen_at")

    seen_at: float
    """When the call last asked. `RunQueues.enter` sets it."""

    def __init__(self, number: int) -> None:
        self.number = number
