"""The honest books: every call, what it was billed, and who waits for what."""

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
    """One call's row; never the key itself."""

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
    prompt_tokens: int = 0
    completion_tokens: int = 0
    elapsed_ns: int = 0
    billed_nanousd: int = 0
    outcome: str = "in_flight"


@dataclass(slots=True)
class Tally:
    """What a reset forgets; a call still running then goes on in the tally it started in."""

    calls: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_CALLS_KEPT))
    _with_body: deque[Entry] = field(default_factory=deque)
    count: int = 0
    finished: int = 0
    client_gone: int = 0
    bills: Counter[str] = field(default_factory=Counter)
    """Nano-USD by model; embeddings' by their path, as they name none."""

    def add(self, entry: Entry) -> None:
        """Give a call its number and its row."""
        self.count += 1
        entry.n = self.count
        self.calls.append(entry)
        self._with_body.append(entry)
        if len(self._with_body) > MAX_BODIES_KEPT:
            self._with_body.popleft().body = None

    def finish(self, entry: Entry) -> None:
        """Count a call that is over; one without an outcome met an error of ours."""
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
    """Counters that can be waited for, and the rows behind them."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._waiters: list[_Waiter] = []
        self._in_flight = 0
        self._at_gate = 0
        self._open_connections = 0
        self._accepted_connections = 0

    def counters(self) -> dict[str, int]:
        """All the numbers."""
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
        """What has been billed for each model."""
        return dict(self._tally.bills)

    def everything(self) -> dict[str, object]:
        """Return the numbers and the rows."""
        return {"calls": list(self._tally.calls), **self.counters()}

    def reset(self) -> None:
        """Forget all calls; what is open or in flight still is."""
        self._tally = Tally()
        self._accepted_connections = self._open_connections
        self._changed()

    @contextmanager
    def following(self, entry: Entry) -> Iterator[None]:
        """Hold a call in flight until the block ends."""
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

    def waits_at_gate(self, by: int) -> None:
        """Count a call that comes to a gate (1) or leaves it (-1)."""
        self._at_gate += by
        self._changed()

    def connected(self, by: int) -> None:
        """Count a connection; -1 for one that turns out to be the control API's."""
        self._accepted_connections += by
        self._open_connections += by

    def disconnected(self) -> None:
        """Count a connection's end."""
        self._open_connections -= 1

    def wait(self, conditions: Mapping[str, int], seconds: float, connection: Connection) -> bool:
        """Wait until all conditions hold at once; false if they did not in time."""
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
