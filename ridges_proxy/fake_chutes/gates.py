"""Gates and steps: places where a call waits until a test lets it continue."""

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
    """Permits of one name, each for one content event. Unused permits are kept."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._permits = 0
        self._waiting: deque[Event] = deque()
        self._over = False

    def give(self) -> None:
        """Let one waiting call continue, or the next one that arrives."""
        if self._waiting:
            self._release_first()
        else:
            self._permits += 1

    def end(self) -> None:
        """Let all calls continue, now and at each later event."""
        self._over = True
        while self._waiting:
            self._release_first()

    def take(self, connection: Connection) -> None:
        """Wait for a permit; also ends after GATE_SECONDS or when the client leaves."""
        if self._over:
            return
        if self._permits:
            self._permits -= 1
            return
        turn = Event()
        self._waiting.append(turn)
        self._books.count_at_gate(1)
        try:
            connection.wait_for(turn, GATE_SECONDS)
        except ClientGoneError:
            if turn.is_set():
                self.give()  # a client that has left does not use up a permit
            raise
        finally:
            if not turn.is_set():
                self._waiting.remove(turn)
                self._books.count_at_gate(-1)

    def _release_first(self) -> None:
        # Counted here and not when the call wakes up: after giving a permit, a test may wait for the next
        # call at the gate, and must not see the one that it just released.
        self._books.count_at_gate(-1)
        self._waiting.popleft().set()


class Gates:
    """Named gates. An open gate stays open until the reset, so a release may come before the call."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._gates: dict[str, Event] = {}
        self._steps: dict[str, Steps] = {}

    def stop_at(self, name: str, connection: Connection) -> None:
        """Wait until the gate opens; also ends after GATE_SECONDS or when the client leaves."""
        gate = self._gates.setdefault(name, Event())
        if not gate.is_set():
            self._books.count_at_gate(1)
            try:
                connection.wait_for(gate, GATE_SECONDS)
            finally:
                self._books.count_at_gate(-1)

    def open(self, name: str) -> None:
        """Open the gate for the calls that wait and for later ones."""
        self._gates.setdefault(name, Event()).set()

    def steps(self, name: str) -> Steps:
        """Return the steps of this name. A call uses the same steps until its end."""
        if name not in self._steps:
            self._steps[name] = Steps(self._books)
        return self._steps[name]

    def reset(self) -> None:
        """Let all calls continue, and close the gates for later ones."""
        for gate in self._gates.values():
            gate.set()
        for steps in self._steps.values():
            steps.end()
        self._gates.clear()
        self._steps.clear()
