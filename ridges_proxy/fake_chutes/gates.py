"""Gates and steps: places where a call stands still until a test says go on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gevent.event import Event

from .connection import ClientGoneError

if TYPE_CHECKING:
    from .books import Books
    from .connection import Connection

GATE_SECONDS = 60


class Steps:
    """Permits of one name, each for one content event; those nobody waits for yet are kept."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._permits = 0
        self._waiting: deque[Event] = deque()
        self._over = False

    def give(self) -> None:
        """Let one go that waits, or the next to come."""
        if self._waiting:
            self._let_go()
        else:
            self._permits += 1

    def end(self) -> None:
        """Let all go, now and at each of their further events."""
        self._over = True
        while self._waiting:
            self._let_go()

    def take(self, connection: Connection) -> None:
        """Stand still until there is a permit, the time is up or the client is gone."""
        if self._over:
            return
        if self._permits:
            self._permits -= 1
            return
        turn = Event()
        self._waiting.append(turn)
        self._books.waits_at_gate(1)
        try:
            connection.wait_for(turn, GATE_SECONDS)
        except ClientGoneError:
            if turn.is_set():
                self.give()  # a permit is not lost on a client that has left
            raise
        finally:
            if not turn.is_set():
                self._waiting.remove(turn)
                self._books.waits_at_gate(-1)

    def _let_go(self) -> None:
        # Counted out here, not where it wakes up: who gives a permit and then waits for the next
        # call at the gate must not meet the one that it just let go.
        self._books.waits_at_gate(-1)
        self._waiting.popleft().set()


class Gates:
    """Named gates; one that was opened stays open until the reset, so that no release comes too early."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._gates: dict[str, Event] = {}
        self._steps: dict[str, Steps] = {}

    def stop_at(self, name: str, connection: Connection) -> None:
        """Stand still until the gate opens, the time is up or the client is gone."""
        gate = self._gates.setdefault(name, Event())
        if not gate.is_set():
            self._books.waits_at_gate(1)
            try:
                connection.wait_for(gate, GATE_SECONDS)
            finally:
                self._books.waits_at_gate(-1)

    def open(self, name: str) -> None:
        """Let through whoever waits and whoever comes."""
        self._gates.setdefault(name, Event()).set()

    def steps(self, name: str) -> Steps:
        """Return the steps of this name; a call keeps to those that it began with."""
        if name not in self._steps:
            self._steps[name] = Steps(self._books)
        return self._steps[name]

    def reset(self) -> None:
        """Let everybody go, and close the gates for those to come."""
        for gate in self._gates.values():
            gate.set()
        for steps in self._steps.values():
            steps.end()
        self._gates.clear()
        self._steps.clear()
