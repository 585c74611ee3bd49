"""Operators' actions on the sessions of the dashboard."""

from __future__ import annotations

from ridges_proxy.ledger import Action
from ridges_proxy.web.audit_trail import record
from ridges_proxy.web.services import services


def end(session_id: str) -> bool:
    """End a session. Returns whether it was valid."""
    if not services().sessions.has(session_id):
        return False
    record(Action.SESSION_ENDED, session_id)
    return services().sessions.end(session_id)


def end_all() -> int:
    """End all sessions. Returns how many have ended."""
    return sum(end(session.id) for session in services().sessions.valid())
