"""Error objects that an upstream sends in place of a response, after a status of 200. Pure.

They count as an error status: nothing was generated, so nothing is charged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import UpstreamFailedError
from ridges_proxy.runtime.json_structure import is_too_complex
from ridges_proxy.upstream.chunk_tokens import has_content
from ridges_proxy.upstream.chunk_usage import is_refusal
from ridges_proxy.upstream.error_text import MAX_BYTES, read_error_names, read_error_text
from ridges_proxy.upstream.errors import error_of_status

if TYPE_CHECKING:
    from ridges_proxy.errors import UpstreamError
    from ridges_proxy.upstream.attempt import Attempt

_NUMBER_KEYS = ("code", "status", "status_code")
_NAME_KEYS = ("code", "type", "error_type")
_MIN_STATUS, _MAX_STATUS = 400, 599

_STATUSES_BY_NAME = {
    "badrequest": 400,
    "contextlengthexceeded": 400,
    "empty": 400,
    "invalidrequest": 400,
    "authentication": 401,
    "invalidapikey": 401,
    "unauthorized": 401,
    "billing": 402,
    "insufficientquota": 402,
    "permission": 403,
    "permissiondenied": 403,
    "modelnotfound": 404,
    "notfound": 404,
    "requesttoolarge": 413,
    "tokenizer": 422,
    "unprocessableentity": 422,
    "validation": 422,
    "overloaded": 429,
    "ratelimit": 429,
    "ratelimitexceeded": 429,
    "toomanyrequests": 429,
    "serverisoverloaded": 503,
    "serviceunavailable": 503,
    "unhealthy": 503,
    "gatewaytimeout": 504,
    "timeout": 504,
}
"""Codes and types of errors in OpenAI's, Anthropic's, vLLM's, SGLang's, TGI's and TEI's APIs, by the status
that they have where they are sent with one. Only letters count, in lower case, without "error" at the end."""

DEFAULT_STATUS = 502
"""The status of an error object that names none."""


def error_in_place(data: bytes, attempt: Attempt, secret: str) -> UpstreamError | None:
    """Return the error if the data is an error object, and record it on the attempt. None: it is none."""
    if is_too_complex(data):
        return None
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return error_in_document(document, data, attempt, secret)


def error_in_document(document: object, data: bytes, attempt: Attempt, secret: str) -> UpstreamError | None:
    """Return what `error_in_place` returns, for data that has been parsed."""
    status = error_status(document)
    if status is None:
        return None
    attempt.record_status(status)
    attempt.option_refused = is_refusal(attempt, data)
    return error_of_object(status, data, secret)


def text_inside_stream(data: bytes, secret: str) -> str:
    """Return the message of an error object that comes after the first event; empty for other data."""
    if len(data) > MAX_BYTES:
        return ""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    is_error = isinstance(document, dict) and (document.get("error") or not document.get("choices"))
    return read_error_text(data, secret) if is_error else ""


def error_of_object(status: int, data: bytes, secret: str) -> UpstreamError:
    """Return the error for the status of an error object. A failure has its text, as a refusal does."""
    text = read_error_text(data, secret)
    error = error_of_status(status, text, read_error_names(data, secret))
    if isinstance(error, UpstreamFailedError):
        error.detail = text
    return error


def error_status(document: object, default: int = DEFAULT_STATUS) -> int | None:
    """Return the status that an error object names, or the default. None: it is no error object."""
    if not isinstance(document, dict) or _has_answer(document):
        return None
    inner = document.get("error") or document.get("detail")
    if not (inner or document.get("object") == "error" or document.get("message")):
        return None
    named = next(filter(None, (read(each) for read in _READERS for each in (inner, document))), None)
    is_error = inner or document.get("object") == "error" or named
    return (named or default) if is_error else None


def _has_answer(document: dict[str, Any]) -> bool:
    """Whether there may be a part of an answer. OpenRouter sends some errors beside a choice without text."""
    choices = document.get("choices")
    if not isinstance(choices, list) or (choices and document.get("usage")):
        return bool(choices)
    contents = [
        choice.get("delta") or choice.get("message") or {} if isinstance(choice, dict) else None
        for choice in choices
    ]
    return any(not isinstance(content, dict) or has_content(content) for content in contents)


def _number_in(value: object) -> int | None:
    """Return the status that an object names by a number."""
    if not isinstance(value, dict):
        return None
    return next(filter(None, (_status_of(value.get(key)) for key in _NUMBER_KEYS)), None)


def _name_in(value: object) -> int | None:
    """Return the status of the code or the type of an object."""
    if not isinstance(value, dict):
        return None
    return next(filter(None, (_status_of_name(value.get(key)) for key in _NAME_KEYS)), None)


_READERS = (_number_in, _name_in)
"""A number anywhere counts before a name."""


def _status_of_name(name: object) -> int | None:
    if not isinstance(name, str):
        return None
    letters = "".join(filter(str.isalpha, name.lower()))
    return _STATUSES_BY_NAME.get(letters.removesuffix("error"))


def _status_of(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len("599"):
        value = int(value)
    if isinstance(value, int | float) and _MIN_STATUS <= value <= _MAX_STATUS and value == int(value):
        return int(value)
    return None
