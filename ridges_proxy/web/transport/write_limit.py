"""A time limit on each write of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.web.request_state import request_state

if TYPE_CHECKING:
    from flask import Flask, Response


def register(app: Flask) -> None:
    """Apply the limit to every response."""
    app.after_request(limit_writes)


def limit_writes(response: Response) -> Response:
    """Set the socket's timeout, so that a client that does not read its response is disconnected."""
    state = request_state()
    sock = state.request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(state.services.settings.write_timeout_seconds)
    return response
