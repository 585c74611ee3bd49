"""JSON Schemas of the calls in flight."""

from __future__ import annotations

from ridges_proxy.ledger import Kind
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

SCHEMAS: dict[str, Schema] = {
    "OpenCall": record(
        run_id=TEXT,
        model={**TEXT, "description": "Empty for a hold of version 0.2.0 or before"},
        kind={"enum": [*Kind]},
        held_cost_usd=USD,
        started_at=or_null(TIME),
        age_seconds=or_null({"type": "number", "minimum": 0}),
        expires_at=TIME,
        expired=FLAG,
        nested={**FLAG, "description": "Whether budgets above the run hold the amount, too"},
    ),
    "OpenCallPage": record(
        calls=listed(named("OpenCall")),
        total={**COUNT, "description": "All calls in flight, or all of the run"},
        limit=COUNT,
    ),
}
