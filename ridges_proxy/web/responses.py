"""Answers as JSON, and errors in the one envelope of the surface that was asked."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from flask import Response, g, request

from ridges_proxy.errors import InternalError, InvalidRequestError, ProxyError, RateLimitedError, RefusedError
from ridges_proxy.web.error_bodies import OPENAI_PATHS, agents_envelope, openai_envelope, openai_error

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException

logger = logging.getLogger(__name__)

JSON = "application/json"

_CODES = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed"}
_RETRY_LATER = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def json_reply(value: object, status: int = 200) -> Response:
    """Answer with a value as JSON."""
    return Response(orjson.dumps(value), status, content_type=JSON)


def json_bytes_response(answer: bytes) -> Response:
    """Answer with the upstream's JSON as it came: the very object, whose room in memory is its own."""
    return Response([answer], content_type=JSON)


def error_reply(error: ProxyError, status: int | None = None, detail: str | None = None) -> Response:
    """Answer with an error of ours; a route of `/agents` may have a status and words of its own for it."""
    g.code = error.code
    if isinstance(error, RateLimitedError):
        g.standing = error.standing
    if _asked_as_openai():
        status, body = openai_error(error, g.request_id)
    else:
        words: object = detail or error.message
        if isinstance(error, InvalidRequestError):
            words = [problem._asdict() for problem in error.problems]
        status, body = status or error.status, agents_envelope(error.code, words, g.request_id)
    reply = json_reply(body, status)
    if error.retry_after_seconds is not None and reply.status_code in _RETRY_LATER:
        reply.headers["Retry-After"] = str(error.retry_after_seconds)
    if reply.status_code == HTTPStatus.UNAUTHORIZED:
        reply.headers["WWW-Authenticate"] = "Bearer"
    return reply


def http_error_reply(error: HTTPException) -> Response:
    """Answer with an error that the framework found: no such path, not this method, and so on."""
    status = HTTPStatus(error.code or InternalError.status)
    code = _CODES.get(status, InternalError.code if status >= InternalError.status else RefusedError.code)
    g.code = code
    body = (
        openai_envelope(status, code, error.name, g.request_id)
        if _asked_as_openai()
        else agents_envelope(code, error.name, g.request_id)
    )
    reply = json_reply(body, status)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            reply.headers[name] = value
    return reply


def bug(error: Exception, request_id: str) -> InternalError:
    """What a bug of ours is to the caller; its place goes to the log, nothing of it to anybody else."""
    logger.error("unexpected error", exc_info=error, extra={"request_id": request_id})
    return InternalError()


def _asked_as_openai() -> bool:
    return f"{request.path}/".startswith(OPENAI_PATHS)
