"""The record of every call and of what it was billed, with counters that a test can wait for."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .connection import Connection

MAX_CALLS_KEPT = 100_000
MAX_BODIES_KEPT = 1_000
AT_LEAST = frozenset({"in_flight", "finished", "client_gone", "at_gate"})


@dataclass(slots=True)
class Entry:
    """The record of one call. It holds a digest of the key, never the key."""

    path: str
    headers_seen: dict[str, str]
    authorization_sha256: str
    n: int = 0
    model: str | None = None
    max_tokens: int | None = None
    stream: bool = False
    stream_options: object = None
    body_keys: list[str] = field(default_factory=list)
    body: dict[str, Any] | None = None
    fault: str | None = None
    label: str | None = None
    received_at: float = 0.0
    """In seconds since the epoch."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    elapsed_ns: int = 0
    billed_nanousd: int = 0
    answer_id: str = ""
    invocation_id: str = ""
    outcome: str = "in_flight"


@dataclass(slots=True)
class Tally:
    """The records since the last reset. A call that is running at a reset stays in the old tally."""

    calls: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_CALLS_KEPT))
    _with_body: deque[Entry] = field(default_factory=deque)
    count: int = 0
    finished: int = 0
    client_gone: int = 0
    bills: Counter[str] = field(default_factory=Counter)
    """Nano-USD by model; embeddings are under their path, because they name no model."""

    def add(self, entry: Entry) -> None:
        """Number a call and add its record."""
        self.count += 1
        entry.n = self.count
        self.calls.append(entry)
        self._with_body.append(entry)
        if len(self._with_body) > MAX_BODIES_KEPT:
            self._with_body.popleft().body = None

    def finish(self, entry: Entry) -> None:
        """Count a call that has ended. One without an outcome met an error in this server."""
        if entry.outcome == "in_flight":
            entry.outcome = "broken"
        self.finished += 1
        self.client_gone += entry.outcome == "client_gone"
        self.bills[entry.model or entry.path] += entry.billed_nanousd


@dataclass(slots=True, eq=False)
class _Waiter:
    conditions: Mapping[str, int]
    met: Event = field(default_factory=Event)

    def look(self, counters: Mapping[str, int]) -> None:
        if all(_holds(name, wanted, counters) for name, wanted in self.conditions.items()):
            self.met.set()


def _holds(name: str, wanted: int, counters: Mapping[str, int]) -> bool:
    if name == "idle":
        return (counters["in_flight"] == 0) == bool(wanted)
    return counters[name] >= wanted


class Books:
    """The counters and the records of calls."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._waiters: list[_Waiter] = []
        self._in_flight = 0
        self._at_gate = 0
        self._open_connections = 0
        self._accepted_connections = 0

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return {
            "count": self._tally.count,
            "finished": self._tally.finished,
            "billed_nanousd": self._tally.bills.total(),
            "client_gone": self._tally.client_gone,
            "in_flight": self._in_flight,
            "at_gate": self._at_gate,
            "open_connections": self._open_connections,
            "accepted_connections": self._accepted_connections,
        }

    def bills(self) -> dict[str, int]:
        """Return the nano-USD billed for each model."""
        return dict(self._tally.bills)

    def everything(self) -> dict[str, object]:
        """Return the counters and the records."""
        return {"calls": list(self._tally.calls), **self.counters()}

    def reset(self) -> None:
        """Forget all calls. Open connections and calls in flight stay counted."""
        self._tally = Tally()
        self._accepted_connections = self._open_connections
        self._changed()

    @contextmanager
    def record(self, entry: Entry) -> Iterator[None]:
        """Record a call; it is in flight until the block ends."""
        tally = self._tally
        tally.add(entry)
        self._in_flight += 1
        self._changed()
        try:
            yield
        finally:
            self._in_flight -= 1
            tally.finish(entry)
            self._changed()

    def count_at_gate(self, by: int) -> None:
        """Count a call that arrives at a gate (1) or leaves it (-1)."""
        self._at_gate += by
        self._changed()

    def connected(self, by: int) -> None:
        """Count a connection; -1 takes back one that the control API uses."""
        self._accepted_connections += by
        self._open_connections += by

    def disconnected(self) -> None:
        """Count the end of a connection."""
        self._open_connections -= 1

    def wait(self, conditions: Mapping[str, int], seconds: float, connection: Connection) -> bool:
        """Wait until all conditions hold at the same time. Returns False after `seconds`."""
        waiter = _Waiter(conditions)
        waiter.look(self.counters())
        self._waiters.append(waiter)
        try:
            connection.wait_for(waiter.met, seconds)
        finally:
            self._waiters.remove(waiter)
        return waiter.met.is_set()

    def _changed(self) -> None:
        if self._waiters:
            counters = self.counters()
            for waiter in self._waiters:
                waiter.look(counters)
