"""Gates: places where a call stands still until a test says go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.event import Event

if TYPE_CHECKING:
    from .books import Books
    from .connection import Connection

GATE_SECONDS = 60


class Gates:
    """Named gates; one that was opened stays open until the reset, so that no release comes too early."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._gates: dict[str, Event] = {}

    def stop_at(self, name: str, connection: Connection) -> None:
        """Stand still until the gate opens, the time is up or the client is gone."""
        gate = self._gates.setdefault(name, Event())
        if not gate.is_set():
            with self._books.at_gate():
                connection.wait_for(gate, GATE_SECONDS)

    def open(self, name: str) -> None:
        """Let through whoever waits and whoever comes."""
        self._gates.setdefault(name, Event()).set()

    def reset(self) -> None:
        """Let everybody go, and close the gates for those to come."""
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()
