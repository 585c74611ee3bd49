"""`/health` (the process answers) and `/ready` (it should be sent calls)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.web.responses import json_reply
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

health = Blueprint("health", __name__)


@health.get("/health")
def alive() -> Response:
    """Say that the process answers."""
    return json_reply({"status": "healthy", "service": "ridges-ai-proxy"})


@health.get("/ready")
def ready() -> Response:
    """200 if calls would be taken and kept books of; 503, with the part that is wrong, if not."""
    sweeper = services().sweeper.state()
    admission = services().admission
    answers = ledger_answers()
    is_ready = answers and bool(sweeper["running"]) and not admission.draining
    state = {
        "status": "ready" if is_ready else "not_ready",
        "ledger": {"answers": answers},
        "sweeper": sweeper,
        "draining": admission.draining,
        "upstream": {"down": services().circuits.down},
        "calls": {
            "in_flight": admission.in_flight,
            "settled_above_hold": services().calls.settled_above_hold,
        },
    }
    return json_reply(state, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def ledger_answers() -> bool:
    """Whether the ledger answers, and can be written to."""
    try:
        services().ledger.ping()
    except LedgerUnavailableError:
        return False
    return True
