"""Every exception's way to an answer: ours, the framework's, and bugs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flask import current_app, g
from werkzeug.exceptions import HTTPException

from ridges_proxy.errors import InternalError, ProxyError
from ridges_proxy.web.replies import error_reply, http_error_reply

if TYPE_CHECKING:
    from flask import Flask, Response

logger = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Answer every error in the envelope. A blueprint may word some of ours in its own way."""
    app.register_error_handler(ProxyError, error_reply)
    app.register_error_handler(HTTPException, http_error_reply)
    app.register_error_handler(Exception, answer_bug)


def answer_bug(error: Exception) -> Response:
    """Answer a bug of ours: its place goes to the log, nothing of it to the caller."""
    logger.error("unexpected error", exc_info=error, extra={"request_id": g.request_id})
    # Once more through the handlers, as the InternalError that it is to the caller: a blueprint may word it.
    return current_app.make_response(current_app.handle_user_exception(InternalError()))
