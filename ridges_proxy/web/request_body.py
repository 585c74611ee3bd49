"""A request's JSON body: read within limits, and parsed strictly."""

from __future__ import annotations

import orjson
from flask import request

from ridges_proxy.errors import BodyCompressedError, InvalidRequestError
from ridges_proxy.web.json_cause import json_cause
from ridges_proxy.web.schemas.problems import problem
from ridges_proxy.web.services import services
from ridges_proxy.web.transport.request_reader import read_body

COMPRESSIONS = frozenset({"br", "compress", "dcb", "dcz", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
"""The compressions in IANA's registry of content codings, and their old names (RFC 9110, section 8.4.1)."""


def json_body() -> object:
    """The parsed body.

    Raises InvalidRequestError for another content type, an empty body, or invalid JSON, and
    BodyCompressedError for a compressed body.

    JSON is what RFC 8259 defines: no NaN, no lone surrogates, valid UTF-8; at most 1,024 levels deep.
    If a name occurs twice in an object, the last value counts. The proxy therefore sends on only what it
    has parsed, never the original bytes.
    """
    service = services()
    wait = service.bodies.wait(service.settings.body_timeout_seconds)
    body = read_body(request.environ, service.settings.max_body_bytes, wait)
    if COMPRESSIONS & _codings(request.headers.get("Content-Encoding", "")):
        raise BodyCompressedError
    if not _is_json(request.mimetype, from_browser="Origin" in request.headers):
        raise InvalidRequestError([problem(["body"], "content_type")])
    if not body:
        raise InvalidRequestError([problem(["body"], "missing")])
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        found = problem(["body", error.pos], "json_invalid")
        raise InvalidRequestError([found], json_cause(error, body)) from None


def _codings(header: str) -> set[str]:
    """The names in a Content-Encoding. Their case does not matter."""
    return {coding.strip(" \t").lower() for coding in header.split(",")}


def _is_json(mimetype: str, *, from_browser: bool) -> bool:
    """Whether the content type is JSON. An absent one counts as JSON, because simple clients send none.

    It does not if the request has an Origin, so it is from a browser. A page of another site may send a body
    without a content type at once; JSON only after a preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch).
    """
    if not mimetype:
        return not from_browser
    return mimetype == "application/json" or (
        mimetype.startswith("application/") and mimetype.endswith("+json")
    )
