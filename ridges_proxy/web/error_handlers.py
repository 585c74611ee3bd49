"""Error handlers: a response for every exception, the framework's and bugs included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app, g
from werkzeug.exceptions import HTTPException

from ridges_proxy.errors import InvalidApiKeyError, ProxyError, RunClosedError
from ridges_proxy.web.responses import error_response, http_error_response, log_bug

if TYPE_CHECKING:
    from flask import Flask, Response

RUN_CLOSED = "the run is closed"
"""In the log: the reason why the token of a closed run is refused."""


def register(app: Flask) -> None:
    """Register the handlers of the whole app. A blueprint may have its own handler for some errors."""
    app.register_error_handler(ProxyError, error_response)
    app.register_error_handler(RunClosedError, answer_closed)
    app.register_error_handler(HTTPException, http_error_response)
    app.register_error_handler(Exception, answer_bug)


def answer_closed(error: RunClosedError) -> Response:
    """Answer a call for a closed run: 403 with the shared key; 401 with the run's token, which has ended."""
    if g.get("run_token") is None:
        return error_response(error)
    g.refusal_reason = RUN_CLOSED
    return error_response(InvalidApiKeyError())


def answer_bug(error: Exception) -> Response:
    """Answer an unexpected exception as an InternalError, for which a blueprint may have its own handler."""
    return current_app.make_response(current_app.handle_user_exception(log_bug(error, g.request_id)))
