"""The audit trail: what operators have done, who did it and when."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

END = (math.inf, "")
"""The position before the newest entry."""


class Action(StrEnum):
    """The actions of operators that are recorded."""

    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SESSION_ENDED = "session_ended"
    RUN_RESET = "run_reset"
    RUN_CLOSED = "run_closed"
    TOKEN_ISSUED = "token_issued"  # nosec B105 # noqa: S105 - an action
    BUDGET_SET = "budget_set"
    BUDGET_RESET = "budget_reset"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action of an operator. It never has a key or a token."""

    id: str
    """32 hexadecimal digits. An entry that is added twice is kept once."""
    at: float
    """Seconds since the epoch."""
    actor: str
    """How the operator was known: by the admin key, or by a session of the dashboard."""
    address: str
    """Address of the operator."""
    action: str
    """One of `Action`, or an action that only a later version knows."""
    subject: str = ""
    """The run, the budget or the session that the action is about."""
    request_id: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Amounts and limits of the action, as JSON."""
    valid_until: float | None = None
    """End of the token or of the session that the action has made, in seconds since the epoch; None: none."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Filter and page of the audit trail."""

    action: str | None = None
    search: str = ""
    """Part of the subject, case-sensitive, without wildcards."""
    since: float = 0.0
    """Only actions at this time or later, in seconds since the epoch."""
    valid_at: float | None = None
    """Only entries of something that is valid after this time. None: all."""
    cursor: str | None = None
    """`next_cursor` of the page before. None: the first page."""
    limit: int = 100

    @property
    def start(self) -> tuple[float, str]:
        """The time and the id of the last entry of the page before. Raises ValueError for another cursor."""
        if self.cursor is None:
            return END
        at, separator, entry_id = self.cursor.partition(":")
        if not separator:
            raise ValueError("a cursor is a time and an id")
        return float(at), entry_id

    def matches(self, entry: AuditEntry) -> bool:
        """Return whether the entry passes the filter."""
        return (
            self.action in {None, entry.action}
            and self.search in entry.subject
            and entry.at >= self.since
            and (self.valid_at is None or (entry.valid_until or 0.0) > self.valid_at)
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page of the audit trail."""

    entries: list[AuditEntry]
    """The newest first."""
    next_cursor: str | None
    """Start of the next page; None after the last page."""


def page_of(found: list[AuditEntry], limit: int) -> AuditPage:
    """Return a page of the first entries. One more than the limit shows that there is a next page."""
    page = found[:limit]
    return AuditPage(page, f"{page[-1].at!r}:{page[-1].id}" if len(found) > limit else None)


def position_of(entry: AuditEntry) -> tuple[float, str]:
    """Return the position of an entry in the order of the trail."""
    return entry.at, entry.id


def newest_first(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    """Return the entries in the order of the trail."""
    return sorted(entries, key=position_of, reverse=True)
