"""`/` (where to read on), `/health` (the process is alive) and `/ready` (the process can serve calls)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint

from ridges_proxy.web.responses import json_response
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

health = Blueprint("health", __name__)


@health.get("/")
def start() -> Response:
    """The paths of the documentation and, if the server has it, of the dashboard."""
    paths = {"docs": "/docs", "openapi": "/openapi.json"}
    if services().settings.admin_api_key:
        paths["dashboard"] = "/dashboard"
    return json_response({"service": "ridges-ai-proxy", **paths})


@health.get("/health")
def alive() -> Response:
    """200 while the process is alive."""
    return json_response({"status": "healthy", "service": "ridges-ai-proxy"})


@health.get("/ready")
def ready() -> Response:
    """200 if the process can serve and account for calls, else 503. The body has the state of each part."""
    sweeper = services().sweeper.state()
    admission = services().admission
    ledger_available = services().write_check.accepts_writes()
    is_ready = ledger_available and bool(sweeper["running"]) and not admission.draining
    state = {
        "status": "ready" if is_ready else "not_ready",
        "ledger": {"answers": ledger_available},
        "sweeper": sweeper,
        "draining": admission.draining,
        "upstream": {"down": services().circuits.down},
        "calls": {
            "in_flight": admission.in_flight,
            "waiting": services().calls.hold_waits.waiting,
            "settled_above_hold": services().calls.settled_above_hold,
        },
        "degraded": services().degraded(),
    }
    return json_response(state, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
