"""JSON Schemas of the audit trail and of issued tokens."""

from __future__ import annotations

from ridges_proxy.ledger import Action
from ridges_proxy.web.openapi.answers import (
    COUNT,
    FLAG,
    TEXT,
    TIME,
    USD,
    Schema,
    listed,
    named,
    or_null,
    record,
)

_ACTOR: Schema = {**TEXT, "description": "`admin key`, or `session` and the id of a session of the dashboard"}

SCHEMAS: dict[str, Schema] = {
    "AuditEntry": record(
        id=TEXT,
        at=TIME,
        actor=_ACTOR,
        address={**TEXT, "description": "Address of the operator"},
        action={
            **TEXT,
            "description": f"{', '.join(Action)}; later versions may have more",
        },
        subject={**TEXT, "description": "The run, the budget or the session; empty for a sweep"},
        detail={"type": "object", "description": "Amounts and limits of the action, by name"},
        valid_until={**or_null(TIME), "description": "End of the token or of the session, if it made one"},
        request_id=TEXT,
    ),
    "AuditPage": record(entries=listed(named("AuditEntry")), next=or_null(TEXT)),
    "IssuedToken": record(
        run_id=TEXT,
        issued_at=TIME,
        issued_by=_ACTOR,
        address=TEXT,
        expires_at=TIME,
        run_closed={**FLAG, "description": "The run is closed, so the token is refused"},
        budget_usd=or_null(USD),
        models=or_null(listed(TEXT)),
        calls_per_minute=or_null(COUNT),
        groups=listed(TEXT),
        reserve_final_usd=USD,
    ),
    "IssuedTokenPage": record(tokens=listed(named("IssuedToken")), next=or_null(TEXT)),
}
