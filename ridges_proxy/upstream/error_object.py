"""Error objects that an upstream sends in place of a response, after a status of 200. Pure.

They count as an error status: nothing was generated, so nothing is charged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import UpstreamFailedError
from ridges_proxy.upstream.error_text import read_error_text
from ridges_proxy.upstream.errors import error_of_status

if TYPE_CHECKING:
    from ridges_proxy.errors import UpstreamError
    from ridges_proxy.upstream.attempt import Attempt

_STATUS_KEYS = ("code", "status", "status_code")
_STATUSES_BY_TYPE = {"invalid_request_error": 400, "BadRequestError": 400}
"""Types of errors, of OpenAI and of vLLM, that mean a status although they name none."""

_MIN_STATUS, _MAX_STATUS = 400, 599

DEFAULT_STATUS = 502
"""The status of an error object that names none."""


def error_in_place(data: bytes, attempt: Attempt, secret: str) -> UpstreamError | None:
    """Return the error if the data is an error object, and record it on the attempt. None: it is none."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    status = error_status(document)
    if status is None:
        return None
    attempt.record_status(status)
    error = error_of_status(status, read_error_text(data, secret))
    if isinstance(error, UpstreamFailedError):
        error.detail = read_error_text(data, secret)
    return error


def error_status(document: object) -> int | None:
    """Return the status that an error object names, or 502 if it names none. None: it is no error object."""
    if not isinstance(document, dict) or document.get("choices"):
        return None
    inner = document.get("error") or document.get("detail")
    named = _named_status(inner) or _named_status(document)
    is_error = inner or document.get("object") == "error" or (document.get("message") and named)
    return (named or DEFAULT_STATUS) if is_error else None


def _named_status(value: object) -> int | None:
    if not isinstance(value, dict):
        return None
    statuses = (_status_of(value.get(key)) for key in _STATUS_KEYS)
    return next(filter(None, statuses), None) or _status_of_type(value)


def _status_of_type(error: dict[str, Any]) -> int | None:
    kind = error.get("type")
    return _STATUSES_BY_TYPE.get(kind) if isinstance(kind, str) else None


def _status_of(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len("599"):
        value = int(value)
    if isinstance(value, int) and _MIN_STATUS <= value <= _MAX_STATUS:
        return value
    return None
