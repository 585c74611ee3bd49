"""A request's JSON body: read within limits, and parsed strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import orjson

from ridges_proxy.errors import BodyCompressedError, BodyTooComplexError, InvalidRequestError
from ridges_proxy.runtime.json_structure import MARKS, is_too_complex
from ridges_proxy.web.callers import turn_of
from ridges_proxy.web.json_cause import json_cause
from ridges_proxy.web.refused_requests import caller_key
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.run_context import HEADER_KEY, NEEDS_TIME
from ridges_proxy.web.schemas.problems import problem
from ridges_proxy.web.transport.client_connection import ClientConnection
from ridges_proxy.web.transport.request_reader import read_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.web.request_state import RequestState

T = TypeVar("T")

JSON = "application/json"

MAX_BYTES_ON_THE_HUB = 65_536

_COSTLY_BYTES = MARKS + b'"\\' + bytes(range(0x80, 0x100))
"""Bytes on which the time of a body depends: those of its structure, also inside strings (arguments of tool
calls are parsed, too), escapes, and text that is not ASCII."""

MAX_COSTLY_BYTES_ON_THE_HUB = 3_000
"""The hub needs up to 2 µs for each: 6 ms, in which all other requests wait."""

COMPRESSIONS = frozenset({"br", "compress", "dcb", "dcz", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
"""The compressions in IANA's registry of content codings, and their old names (RFC 9110, section 8.4.1)."""


def json_body() -> object:
    """The parsed body of a request that is never large. Raises what `prepared` raises for a body."""
    return _parsed(_given(_body(request_state())))


def optional_json_body() -> object:
    """The same, and an empty object for an empty body."""
    body = _body(request_state())
    return _parsed(body) if body else {}


def prepared(prepare: Callable[[object], T]) -> T:
    """Read and parse the body, and return the result of `prepare` for it.

    A body that needs much time is parsed and prepared in a thread, in turn with those of other callers.

    Raises InvalidRequestError for another content type, an empty body, or invalid JSON; BodyCompressedError
    for a compressed body; BodyTooComplexError; BodyQueueError for a wait that is too long; ClientGoneError if
    the client leaves while its body waits.

    JSON is what RFC 8259 defines: no NaN, no lone surrogates, valid UTF-8; at most 1,024 levels deep.
    If a name occurs twice in an object, the last value counts. The proxy therefore sends on only what it
    has parsed, never the original bytes.
    """
    state = request_state()
    service, environ = state.services, state.request.environ
    if service.refused_bytes.is_used:
        service.refused_bytes.check(caller_key(state))
    body = _given(_body(state))
    if _needs_little_time(body):
        return prepare(_parsed(body))
    environ[NEEDS_TIME] = True
    caller = turn_of(state, environ.get(HEADER_KEY, ""))
    client = ClientConnection(environ)
    return service.turns.do(caller, lambda: prepare(_parsed(body)), len(body), client.watch)


def _body(state: RequestState) -> bytes:
    """The body as it came. Raises an error if it cannot be read, or is no JSON by its headers."""
    service, environ = state.services, state.request.environ
    wait = service.bodies.wait(service.settings.body_timeout_seconds)
    body = read_body(environ, service.settings.max_body_bytes, wait)
    codings = environ.get("HTTP_CONTENT_ENCODING")
    if codings and COMPRESSIONS & _codings(codings):
        raise BodyCompressedError
    if environ.get("CONTENT_TYPE") != JSON and not _is_json(
        state.request.mimetype, from_browser="HTTP_ORIGIN" in environ
    ):
        raise InvalidRequestError([problem(["body"], "content_type")])
    return body


def _given(body: bytes) -> bytes:
    if not body:
        raise InvalidRequestError([problem(["body"], "missing")])
    return body


def _needs_little_time(body: bytes) -> bool:
    """Whether the hub parses, checks and counts a body in a few milliseconds."""
    size_bytes = len(body)
    if size_bytes > MAX_BYTES_ON_THE_HUB:
        return False
    return size_bytes <= MAX_COSTLY_BYTES_ON_THE_HUB or (
        size_bytes - len(body.translate(None, _COSTLY_BYTES)) <= MAX_COSTLY_BYTES_ON_THE_HUB
    )


def _parsed(body: bytes) -> object:
    """The parsed body. A body with too many values is refused before it is parsed."""
    if is_too_complex(body):
        raise BodyTooComplexError
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
    return mimetype == JSON or (mimetype.startswith("application/") and mimetype.endswith("+json"))
