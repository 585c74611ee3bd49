"""The audit trail and issued tokens as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.runtime.iso_time import iso_time, time_or_null

if TYPE_CHECKING:
    from ridges_proxy.ledger import AuditEntry
    from ridges_proxy.web.issued_tokens import IssuedToken


def entry_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit trail."""
    return {
        "id": entry.id,
        "at": iso_time(entry.at),
        "actor": entry.actor,
        "address": entry.address,
        "action": entry.action,
        "subject": entry.subject,
        "detail": dict(entry.detail),
        "valid_until": time_or_null(entry.valid_until),
        "request_id": entry.request_id,
    }


def issued_token_json(token: IssuedToken) -> dict[str, Any]:
    """An issued token and its limits, without the token itself."""
    entry = token.entry
    return {
        "run_id": entry.subject,
        "issued_at": iso_time(entry.at),
        "issued_by": entry.actor,
        "address": entry.address,
        "expires_at": time_or_null(entry.valid_until),
        "run_closed": token.is_run_closed,
        **entry.detail,
    }
