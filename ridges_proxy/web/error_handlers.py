"""Every exception's way to an answer: ours, the framework's, and bugs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app, g
from werkzeug.exceptions import HTTPException

from ridges_proxy.errors import InvalidApiKeyError, ProxyError, RunClosedError
from ridges_proxy.web.responses import bug, error_reply, http_error_reply

if TYPE_CHECKING:
    from flask import Flask, Response


def register(app: Flask) -> None:
    """Answer every error in the envelope. A blueprint may word some of ours in its own way."""
    app.register_error_handler(ProxyError, error_reply)
    app.register_error_handler(RunClosedError, answer_closed)
    app.register_error_handler(HTTPException, http_error_reply)
    app.register_error_handler(Exception, answer_bug)


def answer_closed(error: RunClosedError) -> Response:
    """Say so to whom the shared key names the run; the run's own token is dead, and no more is said to it."""
    return error_reply(error if g.get("run_token") is None else InvalidApiKeyError())


def answer_bug(error: Exception) -> Response:
    """Answer a bug of ours, once more through the handlers: a blueprint may word an InternalError."""
    return current_app.make_response(current_app.handle_user_exception(bug(error, g.request_id)))
