"""Mapping to this package's errors: statuses of the upstream, and exceptions of `requests` and urllib3."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException

import requests
from urllib3 import exceptions as urllib3_exceptions

from ridges_proxy.errors import (
    NoFilesError,
    UpstreamAuthError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamModelError,
    UpstreamNoInstanceError,
    UpstreamQuotaError,
    UpstreamRefusedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.runtime.file_limits import NO_FILES
from ridges_proxy.upstream.attempt import UNANSWERED_STATUSES
from ridges_proxy.upstream.error_text import ErrorNames

LIBRARY_ERRORS = (requests.RequestException, urllib3_exceptions.HTTPError, HTTPException, OSError)
"""All exceptions that a call through `requests`, or reading `response.raw`, may raise."""

_BY_STATUS: dict[int, type[UpstreamRefusedError]] = {
    HTTPStatus.UNAUTHORIZED: UpstreamAuthError,
    HTTPStatus.FORBIDDEN: UpstreamAuthError,
    HTTPStatus.PAYMENT_REQUIRED: UpstreamQuotaError,
    HTTPStatus.NOT_FOUND: UpstreamModelError,
    HTTPStatus.CONFLICT: UpstreamBusyError,  # OpenAI's API: another request locks what this one needs
    HTTPStatus.TOO_EARLY: UpstreamBusyError,
    HTTPStatus.TOO_MANY_REQUESTS: UpstreamBusyError,
    HTTPStatus.SERVICE_UNAVAILABLE: UpstreamNoInstanceError,
    529: UpstreamBusyError,  # no IANA status: the site is overloaded
}

_FINAL = (UpstreamAuthError, UpstreamQuotaError, UpstreamRejectedError, UpstreamModelError)
"""Errors that the next try would have too."""

NO_NAMES = ErrorNames()

_EMPTY_ANSWER = 520
"""Cloudflare's status for an answer that is empty or broken."""

_TIMEOUTS = (requests.Timeout, urllib3_exceptions.TimeoutError, TimeoutError)
_UNREACHABLE = (
    requests.ConnectTimeout,
    requests.exceptions.ProxyError,
    requests.exceptions.SSLError,
    urllib3_exceptions.ConnectTimeoutError,
    urllib3_exceptions.NewConnectionError,
    urllib3_exceptions.ProxyError,
    urllib3_exceptions.SSLError,
)


def error_of_status(
    status: int, message: str = "", names: ErrorNames = NO_NAMES, retry_after_seconds: int | None = None
) -> UpstreamError:
    """Return the error for a status that is not 200.

    Only UpstreamRejectedError keeps the message and the names. Only errors that may be retried keep the time
    after which they may.
    """
    error = _error_of_status(status, message)
    if isinstance(error, UpstreamRejectedError):
        error.upstream_code, error.param = names
    if retry_after_seconds is not None and not isinstance(error, _FINAL):
        error.retry_after_seconds = retry_after_seconds
    return error


def _error_of_status(status: int, message: str) -> UpstreamError:
    if status == _EMPTY_ANSWER:
        return UpstreamBrokenError()
    if status in UNANSWERED_STATUSES:
        return UpstreamTimeoutError()
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind(status)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamRejectedError(status, message)
    return UpstreamFailedError(status)


def error_of_exception(error: BaseException, *, sent: bool) -> UpstreamError:
    """Return the error for one of LIBRARY_ERRORS. It depends on the wrapped causes, at any depth.

    If sending the body has started (`sent`), it is never UpstreamUnreachableError, because TLS can fail late.
    """
    causes = _causes(error)
    if not sent and any(_is_out_of_files(cause) for cause in causes):
        return NoFilesError()
    for cause in causes:
        if isinstance(cause, _UNREACHABLE):
            return UpstreamBrokenError() if sent else UpstreamUnreachableError()
        if isinstance(cause, _TIMEOUTS):
            return UpstreamTimeoutError()
    return UpstreamBrokenError()


def _is_out_of_files(error: BaseException | None) -> bool:
    """Whether the error, or one that it was raised from, means that the process may open no more files."""
    if isinstance(error, OSError) and error.errno in NO_FILES:
        return True
    return error is not None and _is_out_of_files(error.__cause__)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and all that it wraps: `requests` and urllib3 keep the cause in `args` or `reason`."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        item = pending.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            pending += [getattr(item, "reason", None), *item.args]
    return found
