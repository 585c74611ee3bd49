"""A request's JSON body: read within limits, parsed strictly."""

from __future__ import annotations

import orjson
from flask import request

from ridges_proxy.errors import InvalidRequestError
from ridges_proxy.web.schemas.fields import problem
from ridges_proxy.web.services import services
from ridges_proxy.web.transport.request_reader import read_body


def json_body() -> object:
    """The parsed body. Raises InvalidRequestError for another content type, no body, or no JSON.

    JSON is what RFC 8259 says: no NaN, no lone surrogates, valid UTF-8; nested 1,024 deep at most. Of
    a name that stands twice the last one counts, so what goes on is what was parsed, never the bytes.
    """
    settings = services().settings
    turn = services().bodies.turn(settings.body_timeout_seconds)
    body = read_body(request.environ, settings.max_body_bytes, turn)
    if not _is_json(request.mimetype):
        raise InvalidRequestError([problem(["body"], "content_type")])
    if not body:
        raise InvalidRequestError([problem(["body"], "missing")])
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError([problem(["body", error.pos], "json_invalid")]) from None


def _is_json(mimetype: str) -> bool:
    """A missing content type is taken for JSON: simple clients send none."""
    return mimetype in {"", "application/json"} or (
        mimetype.startswith("application/") and mimetype.endswith("+json")
    )
