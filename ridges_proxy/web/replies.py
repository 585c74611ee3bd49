"""Answers as JSON, and errors in the one envelope of this surface."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from flask import Response, g

from ridges_proxy.errors import InternalError, InvalidRequestError, ProxyError, RefusedError

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException

JSON = "application/json"

_CODES = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed"}
_RETRY_LATER = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def json_reply(value: object, status: int = 200) -> Response:
    """Answer with a value as JSON."""
    return Response(orjson.dumps(value), status, content_type=JSON)


def error_reply(error: ProxyError, status: int | None = None, detail: str | None = None) -> Response:
    """Answer with an error of ours; a surface may have a status and words of its own for it."""
    words: object = detail or error.message
    if isinstance(error, InvalidRequestError):
        words = [problem._asdict() for problem in error.problems]
    reply = _envelope(status or error.status, error.code, words)
    if error.retry_after_seconds is not None and reply.status_code in _RETRY_LATER:
        reply.headers["Retry-After"] = str(error.retry_after_seconds)
    if reply.status_code == HTTPStatus.UNAUTHORIZED:
        reply.headers["WWW-Authenticate"] = "Bearer"
    return reply


def http_error_reply(error: HTTPException) -> Response:
    """Answer with an error that the framework found: no such path, not this method, and so on."""
    status = HTTPStatus(error.code or InternalError.status)
    code = _CODES.get(status, InternalError.code if status >= InternalError.status else RefusedError.code)
    reply = _envelope(status, code, error.name)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            reply.headers[name] = value
    return reply


def _envelope(status: int, code: str, detail: object) -> Response:
    g.code = code
    return json_reply({"detail": detail, "code": code, "request_id": g.request_id}, status)
