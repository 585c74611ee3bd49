"""A request's JSON body: read within limits, and parsed strictly."""

from __future__ import annotations

import orjson
from flask import request

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.problems import problem
from ridges_proxy.web.services import services
from ridges_proxy.web.transport.request_reader import read_body


def json_body() -> object:
    """The parsed body. Raises InvalidRequestError for another content type, an empty body, or invalid JSON.

    JSON is what RFC 8259 defines: no NaN, no lone surrogates, valid UTF-8; at most 1,024 levels deep.
    If a name occurs twice in an object, the last value counts. The proxy therefore sends on only what it
    has parsed, never the original bytes.
    """
    service = services()
    wait = service.bodies.wait(service.settings.body_timeout_seconds)
    body = read_body(request.environ, service.settings.max_body_bytes, wait)
    if not _is_json(request.mimetype):
        raise InvalidRequestError([problem(["body"], "content_type")])
    if not body:
        raise InvalidRequestError([problem(["body"], "missing")])
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError([problem(["body", error.pos], "json_invalid")]) from None


def _is_json(mimetype: str) -> bool:
    """Whether the content type is JSON. An absent one counts as JSON, because simple clients send none."""
    return mimetype in {"", "application/json"} or (
        mimetype.startswith("application/") and mimetype.endswith("+json")
    )
