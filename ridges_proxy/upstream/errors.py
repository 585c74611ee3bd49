"""Which of our errors stands for which of theirs: statuses of the upstream, exceptions of its libraries."""

from __future__ import annotations

from http import HTTPStatus

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

LIBRARY_ERRORS = (requests.RequestException, urllib3_exceptions.HTTPError, OSError)
"""Everything that a call through `requests`, and reading `response.raw`, may raise."""

_BY_STATUS: dict[int, type[UpstreamRefusedError]] = {
    HTTPStatus.UNAUTHORIZED: UpstreamAuthError,
    HTTPStatus.FORBIDDEN: UpstreamAuthError,
    HTTPStatus.PAYMENT_REQUIRED: UpstreamQuotaError,
    HTTPStatus.NOT_FOUND: UpstreamModelError,
    HTTPStatus.TOO_MANY_REQUESTS: UpstreamBusyError,
    HTTPStatus.SERVICE_UNAVAILABLE: UpstreamNoInstanceError,
}

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


def error_of_status(status: int, words: str = "") -> UpstreamRefusedError:
    """Our error for a status that is not 200; the upstream's words matter only to whom they are about."""
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind(status)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamRejectedError(status, words)
    return UpstreamFailedError(status)


def error_of_exception(error: BaseException, *, sent: bool) -> UpstreamError:
    """Our error for one of LIBRARY_ERRORS, judged by the cause that it wraps, however deep.

    What goes wrong after the body began to leave (`sent`) is never called unreachable: TLS can fail late.
    """
    causes = _causes(error)
    if not sent and any(_wants_files(cause) for cause in causes):
        return NoFilesError()
    for cause in causes:
        if isinstance(cause, _UNREACHABLE):
            return UpstreamBrokenError() if sent else UpstreamUnreachableError()
        if isinstance(cause, _TIMEOUTS):
            return UpstreamTimeoutError()
    return UpstreamBrokenError()


def _wants_files(error: BaseException | None) -> bool:
    """Whether it, or what it was raised from, is the system's word that we may open no more files."""
    if isinstance(error, OSError) and error.errno in NO_FILES:
        return True
    return error is not None and _wants_files(error.__cause__)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it wraps: `requests` and urllib3 keep the cause in `args` or in `reason`."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        item = todo.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            todo += [getattr(item, "reason", None), *item.args]
    return found
