"""Findings of `ridges-proxy doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the output."""

    what: str
    state: State
    message: str
    advice: str = ""
    """What to do about a problem. Empty if there is none."""


def ok(what: str, message: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(what, State.OK, message)


def warning(what: str, message: str, advice: str) -> Finding:
    """Return a finding about a part that works but needs attention."""
    return Finding(what, State.WARNING, message, advice)


def failed(what: str, message: str, advice: str) -> Finding:
    """Return a finding about a problem that prevents operation."""
    return Finding(what, State.FAILED, message, advice)
