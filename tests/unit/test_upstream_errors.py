from __future__ import annotations

import errno
import http.client
import inspect
import socket
import ssl
from typing import TYPE_CHECKING

import requests
import urllib3
from requests import exceptions as requests_errors
from urllib3 import exceptions as urllib3_errors

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
from ridges_proxy.upstream.attempt import UNANSWERED_STATUSES
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status
from tests.support.table import check_rows

if TYPE_CHECKING:
    from types import ModuleType

BROKEN, TIMEOUT, UNREACHABLE = UpstreamBrokenError, UpstreamTimeoutError, UpstreamUnreachableError

POOL = urllib3.HTTPConnectionPool("chutes.test")
CONNECTION = urllib3.connection.HTTPConnection("chutes.test")
RESPONSE = urllib3.HTTPResponse(b"")

EXPECTED_CLASS: dict[type[BaseException], type[UpstreamError]] = {
    requests_errors.ChunkedEncodingError: BROKEN,
    requests_errors.ConnectTimeout: UNREACHABLE,
    requests_errors.ConnectionError: BROKEN,
    requests_errors.ContentDecodingError: BROKEN,
    requests_errors.HTTPError: BROKEN,
    requests_errors.InvalidHeader: BROKEN,
    requests_errors.InvalidJSONError: BROKEN,
    requests_errors.InvalidProxyURL: BROKEN,
    requests_errors.InvalidSchema: BROKEN,
    requests_errors.InvalidURL: BROKEN,
    requests_errors.JSONDecodeError: BROKEN,
    requests_errors.MissingSchema: BROKEN,
    requests_errors.ProxyError: UNREACHABLE,
    requests_errors.ReadTimeout: TIMEOUT,
    requests_errors.RequestException: BROKEN,
    requests_errors.RetryError: BROKEN,
    requests_errors.SSLError: UNREACHABLE,
    requests_errors.StreamConsumedError: BROKEN,
    requests_errors.Timeout: TIMEOUT,
    requests_errors.TooManyRedirects: BROKEN,
    requests_errors.URLRequired: BROKEN,
    requests_errors.UnrewindableBodyError: BROKEN,
    urllib3_errors.BodyNotHttplibCompatible: BROKEN,
    urllib3_errors.ClosedPoolError: BROKEN,
    urllib3_errors.ConnectTimeoutError: UNREACHABLE,
    urllib3_errors.DecodeError: BROKEN,
    urllib3_errors.EmptyPoolError: BROKEN,
    urllib3_errors.FullPoolError: BROKEN,
    urllib3_errors.HTTPError: BROKEN,
    urllib3_errors.HeaderParsingError: BROKEN,
    urllib3_errors.HostChangedError: BROKEN,
    urllib3_errors.IncompleteRead: BROKEN,
    urllib3_errors.InvalidChunkLength: BROKEN,
    urllib3_errors.InvalidHeader: BROKEN,
    urllib3_errors.LocationParseError: BROKEN,
    urllib3_errors.LocationValueError: BROKEN,
    urllib3_errors.MaxRetryError: BROKEN,
    urllib3_errors.NameResolutionError: UNREACHABLE,
    urllib3_errors.NewConnectionError: UNREACHABLE,
    urllib3_errors.PoolError: BROKEN,
    urllib3_errors.ProtocolError: BROKEN,
    urllib3_errors.ProxyError: UNREACHABLE,
    urllib3_errors.ProxySchemeUnknown: BROKEN,
    urllib3_errors.ReadTimeoutError: TIMEOUT,
    urllib3_errors.RequestError: BROKEN,
    urllib3_errors.ResponseError: BROKEN,
    urllib3_errors.ResponseNotChunked: BROKEN,
    urllib3_errors.SSLError: UNREACHABLE,
    urllib3_errors.TimeoutError: TIMEOUT,
    urllib3_errors.TimeoutStateError: BROKEN,
    urllib3_errors.URLSchemeUnknown: BROKEN,
    urllib3_errors.UnrewindableBodyError: BROKEN,
}

NEVER_RAISED: set[type[BaseException]] = {
    # Warnings.
    requests_errors.FileModeWarning,
    requests_errors.RequestsDependencyWarning,
    requests_errors.RequestsWarning,
    urllib3_errors.DependencyWarning,
    urllib3_errors.HTTPWarning,
    urllib3_errors.InsecurePlatformWarning,
    urllib3_errors.InsecureRequestWarning,
    urllib3_errors.NotOpenSSLWarning,
    urllib3_errors.SecurityWarning,
    urllib3_errors.SystemTimeWarning,
    # Only for HTTPS proxies, which are not used.
    urllib3_errors.ProxySchemeUnsupported,
}

SAMPLES: dict[type[BaseException], tuple[object, ...]] = {
    requests_errors.JSONDecodeError: ("no JSON", "{", 0),
    urllib3_errors.ClosedPoolError: (POOL, "closed"),
    urllib3_errors.EmptyPoolError: (POOL, "empty"),
    urllib3_errors.FullPoolError: (POOL, "full"),
    urllib3_errors.HeaderParsingError: ([], b""),
    urllib3_errors.HostChangedError: (POOL, "/"),
    urllib3_errors.IncompleteRead: (1, 2),
    urllib3_errors.InvalidChunkLength: (RESPONSE, b"xyz"),
    urllib3_errors.LocationParseError: ("http://",),
    urllib3_errors.MaxRetryError: (POOL, "/"),
    urllib3_errors.NameResolutionError: ("chutes.test", CONNECTION, socket.gaierror()),
    urllib3_errors.NewConnectionError: (CONNECTION, "refused"),
    urllib3_errors.PoolError: (POOL, "broken"),
    urllib3_errors.ProxyError: ("no proxy", OSError()),
    urllib3_errors.ProxySchemeUnknown: ("ftp",),
    urllib3_errors.ReadTimeoutError: (POOL, "/", "too late"),
    urllib3_errors.RequestError: (POOL, "/", "broken"),
    urllib3_errors.URLSchemeUnknown: ("ftp",),
}
"""Arguments of the constructors that need some."""


def classes_of(module: ModuleType) -> set[type[BaseException]]:
    """The exceptions that a module defines itself."""
    return {
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }


def test_every_exception_class_of_both_libraries_is_in_the_table() -> None:
    def check(module: ModuleType) -> None:
        listed = {kind for kind in [*EXPECTED_CLASS, *NEVER_RAISED] if kind.__module__ == module.__name__}

        assert classes_of(module) == listed

    check_rows([requests_errors, urllib3_errors], check)


def test_no_class_is_both_in_the_table_and_never_raised() -> None:
    assert not EXPECTED_CLASS.keys() & NEVER_RAISED


def test_each_exception_of_the_libraries_becomes_an_upstream_error() -> None:
    def check(row: tuple[type[BaseException], type[UpstreamError]]) -> None:
        kind, expected = row
        error = kind(*SAMPLES.get(kind, ()))

        assert isinstance(error, LIBRARY_ERRORS)
        assert type(error_of_exception(error, sent=False)) is expected

    check_rows(EXPECTED_CLASS.items(), check)


def test_no_exception_means_unreachable_after_the_body_was_sent() -> None:
    def check(row: tuple[type[BaseException], type[UpstreamError]]) -> None:
        kind, unsent = row
        error = kind(*SAMPLES.get(kind, ()))

        assert type(error_of_exception(error, sent=True)) is (BROKEN if unsent is UNREACHABLE else unsent)

    check_rows(EXPECTED_CLASS.items(), check)


def max_retry(reason: Exception) -> urllib3_errors.MaxRetryError:
    return urllib3_errors.MaxRetryError(POOL, "/", reason)


REFUSED = urllib3_errors.NewConnectionError(CONNECTION, "refused")
READ_TIMEOUT = urllib3_errors.ReadTimeoutError(POOL, "/", "too late")


def test_an_exception_is_mapped_by_the_cause_that_it_wraps() -> None:
    rows: list[tuple[Exception, type[UpstreamError]]] = [
        (requests.ConnectionError(max_retry(REFUSED)), UNREACHABLE),
        (
            requests.ConnectionError(
                max_retry(urllib3_errors.NameResolutionError("chutes.test", CONNECTION, socket.gaierror()))
            ),
            UNREACHABLE,
        ),
        (requests.ConnectTimeout(max_retry(urllib3_errors.ConnectTimeoutError("too late"))), UNREACHABLE),
        (requests.ConnectionError(max_retry(urllib3_errors.ConnectTimeoutError("too late"))), UNREACHABLE),
        (requests.exceptions.SSLError(max_retry(urllib3_errors.SSLError(ssl.SSLError("bad")))), UNREACHABLE),
        (requests.ConnectionError(max_retry(urllib3_errors.SSLError(ssl.SSLError("bad")))), UNREACHABLE),
        (requests.exceptions.ProxyError(max_retry(urllib3_errors.ProxyError("no", OSError()))), UNREACHABLE),
        (max_retry(REFUSED), UNREACHABLE),
        (requests.ConnectionError(READ_TIMEOUT), TIMEOUT),
        (requests.ReadTimeout(READ_TIMEOUT), TIMEOUT),
        (requests.ConnectionError(max_retry(READ_TIMEOUT)), TIMEOUT),
        (
            requests.ConnectionError(urllib3_errors.ProtocolError("aborted", TimeoutError("timed out"))),
            TIMEOUT,
        ),
        (urllib3_errors.ProtocolError("broken", TimeoutError()), TIMEOUT),
        (urllib3_errors.ProtocolError(OSError("aborted"), TimeoutError()), TIMEOUT),
        (TimeoutError("timed out"), TIMEOUT),
        (
            requests.ConnectionError(
                urllib3_errors.ProtocolError(
                    "aborted", http.client.RemoteDisconnected("closed without response")
                )
            ),
            BROKEN,
        ),
        (
            requests.ConnectionError(
                urllib3_errors.ProtocolError("aborted", ConnectionResetError(104, "reset"))
            ),
            BROKEN,
        ),
        (
            requests.exceptions.ChunkedEncodingError(
                urllib3_errors.ProtocolError("broken", http.client.IncompleteRead(b"", 5))
            ),
            BROKEN,
        ),
        (urllib3_errors.ProtocolError("broken", urllib3_errors.IncompleteRead(3, 5)), BROKEN),
        (urllib3_errors.ProtocolError("broken", urllib3_errors.InvalidChunkLength(RESPONSE, b"x")), BROKEN),
        (requests.exceptions.ContentDecodingError(urllib3_errors.DecodeError("gzip")), BROKEN),
        (requests.exceptions.RetryError(max_retry(urllib3_errors.ResponseError("too many"))), BROKEN),
        (requests.ConnectionError(urllib3_errors.ClosedPoolError(POOL, "closed")), BROKEN),
        (requests.exceptions.InvalidURL(urllib3_errors.LocationParseError("http://")), BROKEN),
        (requests.ConnectionError(), BROKEN),
        (max_retry(urllib3_errors.HTTPError()), BROKEN),
        (ConnectionResetError(104, "reset"), BROKEN),
        (BrokenPipeError(32, "pipe"), BROKEN),
        (OSError(), BROKEN),
    ]

    def check(row: tuple[Exception, type[UpstreamError]]) -> None:
        error, expected = row
        assert isinstance(error, LIBRARY_ERRORS)
        assert type(error_of_exception(error, sent=False)) is expected

    check_rows(rows, check)


def test_circular_causes_are_handled() -> None:
    outer, inner = requests.ConnectionError(), urllib3_errors.ProtocolError()
    outer.args, inner.args = (inner,), (outer,)

    assert type(error_of_exception(outer, sent=False)) is BROKEN


def test_a_cause_a_thousand_deep_is_found() -> None:
    error: Exception = REFUSED
    for _ in range(1000):
        error = requests.ConnectionError(error)

    assert type(error_of_exception(error, sent=False)) is UNREACHABLE


def test_an_upstream_error_is_not_a_library_error() -> None:
    assert not issubclass(UpstreamError, LIBRARY_ERRORS)


BY_STATUS = {
    401: UpstreamAuthError,
    402: UpstreamQuotaError,
    403: UpstreamAuthError,
    404: UpstreamModelError,
    409: UpstreamBusyError,
    425: UpstreamBusyError,
    429: UpstreamBusyError,
    503: UpstreamNoInstanceError,
    520: UpstreamBrokenError,
    529: UpstreamBusyError,
}


def test_a_status_that_is_neither_200_nor_an_error_is_a_failure() -> None:
    def check(status: int) -> None:
        assert type(error_of_status(status)) is UpstreamFailedError

    check_rows([*range(100, 200), *range(201, 400)], check)


def test_an_error_status_has_its_class() -> None:
    def check(status: int) -> None:
        default: type[UpstreamError] = UpstreamRejectedError if status < 500 else UpstreamFailedError
        if status in UNANSWERED_STATUSES:
            default = UpstreamTimeoutError
        assert type(error_of_status(status)) is BY_STATUS.get(status, default)

    check_rows(range(400, 600), check)
    assert {408, 460, 499, 504, 520, 522, 524, 598} == UNANSWERED_STATUSES


def test_the_error_keeps_the_status_it_came_from() -> None:
    def check(status: int) -> None:
        error = error_of_status(status)
        assert isinstance(error, UpstreamRefusedError)
        assert error.upstream_status == status

    check_rows({*range(100, 600)} - {200} - UNANSWERED_STATUSES, check)


def test_a_lack_of_file_descriptors_is_not_an_unreachable_upstream() -> None:
    def check(number: int) -> None:
        unopened = urllib3_errors.NewConnectionError(None, "no")  # type: ignore[arg-type] # the connection is unused
        unopened.__cause__ = OSError(number, "too many open files")
        error = requests.ConnectionError(urllib3_errors.MaxRetryError(None, "/", unopened))  # type: ignore[arg-type] # the pool is unused
        assert type(error_of_exception(error, sent=False)) is NoFilesError
        assert type(error_of_exception(error, sent=True)) is not NoFilesError
        unopened.__cause__ = OSError(errno.ECONNREFUSED, "refused")
        assert type(error_of_exception(error, sent=False)) is UpstreamUnreachableError

    check_rows([errno.EMFILE, errno.ENFILE], check)
