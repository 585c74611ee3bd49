"""JSON responses, and error responses in the form of the API that was called."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import orjson
from flask import current_app, g, request

from ridges_proxy.errors import (
    BodyCompressedError,
    InternalError,
    InvalidRequestError,
    ProxyError,
    RateLimitedError,
    RefusedError,
    UpstreamAuthError,
    UpstreamModelError,
    UpstreamQuotaError,
)
from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.upstream import released_on_error
from ridges_proxy.web.error_bodies import (
    OPENAI_PATHS,
    agents_error_body,
    openai_error_body,
    openai_status_and_body,
    with_hint,
)
from ridges_proxy.web.error_hints import hint_of, http_hint_of
from ridges_proxy.web.refusals import refusal_json
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.service_response import ApiResponse
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask, Response
    from werkzeug.exceptions import HTTPException

    from ridges_proxy.calls.call import Call
    from ridges_proxy.upstream import BufferedBody
    from ridges_proxy.web.flask_app import ProxyFlask

logger = logging.getLogger(__name__)

JSON = "application/json"

PAUSE_BYTES = 1 << 20
"""Bytes that are sent before a pause: less than a millisecond."""

_CODES = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed"}
_RETRY_LATER = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_FINAL = (UpstreamAuthError, UpstreamModelError, UpstreamQuotaError)
"""Errors that the next try would have too. OpenAI's clients retry a 502, unless a header says not to."""


def json_response(value: object, status: int = 200) -> Response:
    """A value as JSON."""
    content = orjson.dumps(value)
    return ApiResponse([content], JSON, status, len(content))


def register(app: Flask) -> None:
    """Release the memory of an upstream response that cannot be sent because a later step failed."""
    app.teardown_request(_release_unsent)


def converted_response(
    call: Call, body: BufferedBody, convert: Callable[[BufferedBody], list[bytes]]
) -> Response:
    """Answer with JSON in pieces that is made of the upstream's JSON. A large body is converted in a turn."""
    with released_on_error() as keep:
        pieces = services().calls.read(call, body.received_bytes, partial(convert, keep(body)))
    return json_bytes_response(body, pieces)


def json_bytes_response(body: BufferedBody, pieces: list[bytes] | None = None) -> Response:
    """Answer with the upstream's unchanged JSON, or with JSON in pieces that was made of it.

    Closing the response releases the body. The server closes every response that it was given, also when the
    client has left before the body is sent.
    """
    pieces = [body.content] if pieces is None else pieces
    body.contents.clear()
    request_state().unsent_body = body
    size_bytes = sum(map(len, pieces))
    body_pieces = pieces if size_bytes <= PAUSE_BYTES else _with_pauses(pieces)
    response = ApiResponse(body_pieces, JSON, size_bytes=size_bytes)
    response.call_on_close(body.release)
    return response


def _with_pauses(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces, with pauses for other clients: a write to a client that reads fast never waits."""
    sent_bytes = 0
    for piece in pieces:
        for start in range(0, len(piece), PAUSE_BYTES):
            if sent_bytes >= PAUSE_BYTES:
                pause()
                sent_bytes = 0
            part = piece[start : start + PAUSE_BYTES]
            sent_bytes += len(part)
            yield part


def _release_unsent(error: BaseException | None) -> None:
    """Release the body of a response that was dropped, and so is never closed."""
    if error is not None and (body := request_state().unsent_body):
        body.release()


def error_response(error: ProxyError, status: int | None = None, detail: str | None = None) -> Response:
    """The response to a ProxyError. A route of `/agents` may give its own status and text."""
    g.code = error.code
    if isinstance(error, RateLimitedError):
        g.rate_limit = error.rate_limit_status
    if _is_openai_path():
        status, body = openai_status_and_body(error, request.path, g.request_id)
    else:
        content: object = detail or error.message
        if isinstance(error, InvalidRequestError):
            content = [problem._asdict() for problem in error.problems]
        hint = hint_of(error) if detail is None else ""
        body = {**agents_error_body(error.code, content, g.request_id, hint), **refusal_json(error)}
        status = status or error.status
    response = json_response(body, status)
    if error.retry_after_seconds is not None and response.status_code in _RETRY_LATER:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, BodyCompressedError):
        response.headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
    if isinstance(error, _FINAL):
        response.headers["X-Should-Retry"] = "false"
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def http_error_response(error: HTTPException) -> Response:
    """The response to an error that Flask found, such as an unknown path or a wrong method."""
    status = HTTPStatus(error.code or InternalError.status)
    code = _CODES.get(status, InternalError.code if status >= InternalError.status else RefusedError.code)
    g.code = code
    is_wrong_path = status == HTTPStatus.NOT_FOUND and request.url_rule is None
    route = cast("ProxyFlask", current_app).known_routes.near(request.path) if is_wrong_path else None
    hint = http_hint_of(error, route)
    if _is_openai_path() or (route is not None and route.startswith(OPENAI_PATHS) and not _is_agents_path()):
        message = with_hint(error.name, hint)
        body = openai_error_body(request.path, status, code, message, g.request_id)
    else:
        body = agents_error_body(code, error.name, g.request_id, hint)
    response = json_response(body, status)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def log_bug(error: Exception, request_id: str) -> InternalError:
    """Log an unexpected exception with its traceback, and return the error that the caller sees instead."""
    logger.error("unexpected error", exc_info=error, extra={"request_id": request_id})
    return InternalError()


def _is_agents_path() -> bool:
    return request.path.startswith("/agents")


def _is_openai_path() -> bool:
    return f"{request.path}/".startswith(OPENAI_PATHS)
