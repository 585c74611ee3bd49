"""Sessions of operators who are signed in to the dashboard, shared by all workers and machines.

A cookie alone cannot be withdrawn. Its session is valid only while it is stored here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SESSIONS = 1_000
"""Limit of stored sessions. Above it, the oldest ends: only operators can create any."""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. Its id is in the signed cookie; the id alone gives no access."""

    id: str
    address: str
    """Address of the browser."""
    signed_in_at: float
    expires_at: float
    """Both times are seconds since 1970."""


class Sessions(Protocol):
    """The sessions that have neither ended nor expired. Every method may raise LedgerUnavailableError."""

    def add(self, session: Session) -> None:
        """Store a new session."""
        ...

    def has(self, session_id: str) -> bool:
        """Return whether the session is valid."""
        ...

    def valid(self) -> list[Session]:
        """Return all sessions, oldest first."""
        ...

    def end(self, session_id: str) -> bool:
        """End a session. Return whether it was valid."""
        ...


class MemorySessions:
    """Sessions in the memory of the only worker. A restart ends them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._sessions: dict[str, Session] = {}
        self._clock = clock

    def add(self, session: Session) -> None:
        kept = [*self.valid(), session][-MAX_SESSIONS:]
        self._sessions = {each.id: each for each in kept}

    def has(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        return session is not None and self._clock() < session.expires_at

    def valid(self) -> list[Session]:
        now = self._clock()
        found = (each for each in self._sessions.values() if now < each.expires_at)
        return sorted(found, key=lambda each: each.signed_in_at)

    def end(self, session_id: str) -> bool:
        was_valid = self.has(session_id)
        self._sessions.pop(session_id, None)
        return was_valid
