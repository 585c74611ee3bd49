"""A limit on the time that sending an answer may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Flask, Response


def register(app: Flask) -> None:
    """Bound the sending of every answer."""
    app.after_request(limit_writes)


def limit_writes(response: Response) -> Response:
    """Bound the time that sending the answer may take: a client that does not read is cut off."""
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.settimeout(services().settings.write_timeout_seconds)
    return response
