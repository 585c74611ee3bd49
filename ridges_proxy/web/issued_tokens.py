"""Run tokens that this server has issued and that have not expired, from the audit trail.

A token that the main server mints itself is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.ledger import Action, AuditQuery
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ridges_proxy.ledger import AuditEntry


class IssuedToken(NamedTuple):
    """A run token, as the audit trail has it."""

    entry: AuditEntry
    """The entry of its issue. Its detail has the limits of the token."""
    is_run_closed: bool
    """Whether the run is closed, so that the token is refused."""


class IssuedTokenPage(NamedTuple):
    """One page of the tokens, the latest issued first."""

    tokens: list[IssuedToken]
    next_cursor: str | None


def issued_tokens(search: str = "", cursor: str | None = None, limit: int = 50) -> IssuedTokenPage:
    """One page of the tokens of the runs whose id has this text. Raises ValueError for a wrong cursor."""
    now = services().calls.clock()
    page = services().ledger.audit_trail(
        AuditQuery(Action.TOKEN_ISSUED, search, now - MAX_LIFETIME_SECONDS, now, cursor, limit)
    )
    closed = _closed_runs({entry.subject for entry in page.entries})
    tokens = [IssuedToken(entry, entry.subject in closed) for entry in page.entries]
    return IssuedTokenPage(tokens, page.next_cursor)


def _closed_runs(run_ids: Iterable[str]) -> set[str]:
    usages = (services().ledger.usage(run_id) for run_id in run_ids)
    return {usage.run_id for usage in usages if usage and usage.closed}
