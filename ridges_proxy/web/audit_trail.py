"""Entries of the audit trail: each action of an operator is recorded here, for `/admin` and the dashboard."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flask import g

from ridges_proxy.ledger import AuditEntry
from ridges_proxy.web.callers import caller_address
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.ledger import Action

ID_BYTES = 16


def record(action: Action, subject: str = "", *, valid_until: float | None = None, **detail: object) -> None:
    """Record an action of the operator who sends this request. Call it before the action itself.

    If the ledger fails here, the action is not done: none is missing in the trail. If it fails after this,
    the trail has an action that was not done, and the log has the error under the same request id.

    `detail` is JSON, and has no key and no token. Raises LedgerUnavailableError.
    """
    entry = AuditEntry(
        id=secrets.token_hex(ID_BYTES),
        at=services().calls.clock(),
        actor=g.operator,
        address=caller_address() or "unknown",
        action=action,
        subject=subject,
        request_id=g.request_id,
        detail=detail,
        valid_until=valid_until,
    )
    services().ledger.record_action(entry)
