"""What `flask doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How well something is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    what: str
    state: State
    words: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def ok(what: str, words: str) -> Finding:
    """All is well."""
    return Finding(what, State.OK, words)


def warning(what: str, words: str, advice: str) -> Finding:
    """It works, and should be looked at."""
    return Finding(what, State.WARNING, words, advice)


def failed(what: str, words: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(what, State.FAILED, words, advice)
