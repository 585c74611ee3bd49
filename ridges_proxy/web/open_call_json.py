"""Calls in flight as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.runtime.iso_time import iso_time, time_or_null

if TYPE_CHECKING:
    from ridges_proxy.ledger import OpenCall


def open_call_json(call: OpenCall) -> dict[str, Any]:
    """A call in flight for an operator."""
    age_seconds = call.age_seconds
    return {
        "run_id": call.run_id,
        "model": call.model,
        "kind": call.kind,
        "held_cost_usd": usd_from_nanousd(call.held_nanousd),
        "started_at": time_or_null(call.started_at),
        "age_seconds": None if age_seconds is None else round(age_seconds, 3),
        "expires_at": iso_time(call.expires_at),
        "expired": call.expired,
        "nested": call.nested,
    }
