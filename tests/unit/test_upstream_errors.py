from __future__ import annotations

import errno
import http.client
import inspect
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import requests
import urllib3
from requests import exceptions as theirs
from urllib3 import exceptions as below

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
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status

if TYPE_CHECKING:
    from types import ModuleType

BROKEN, TIMEOUT, UNREACHABLE = UpstreamBrokenError, UpstreamTimeoutError, UpstreamUnreachableError

POOL = urllib3.HTTPConnectionPool("chutes.test")
CONNECTION = urllib3.connection.HTTPConnection("chutes.test")
RESPONSE = urllib3.HTTPResponse(b"")

OUR_CLASS: dict[type[BaseException], type[UpstreamError]] = {
    theirs.ChunkedEncodingError: BROKEN,
    theirs.ConnectTimeout: UNREACHABLE,
    theirs.ConnectionError: BROKEN,
    theirs.ContentDecodingError: BROKEN,
    theirs.HTTPError: BROKEN,
    theirs.InvalidHeader: BROKEN,
    theirs.InvalidJSONError: BROKEN,
    theirs.InvalidProxyURL: BROKEN,
    theirs.InvalidSchema: BROKEN,
    theirs.InvalidURL: BROKEN,
    theirs.JSONDecodeError: BROKEN,
    theirs.MissingSchema: BROKEN,
    theirs.ProxyError: UNREACHABLE,
    theirs.ReadTimeout: TIMEOUT,
    theirs.RequestException: BROKEN,
    theirs.RetryError: BROKEN,
    theirs.SSLError: UNREACHABLE,
    theirs.StreamConsumedError: BROKEN,
    theirs.Timeout: TIMEOUT,
    theirs.TooManyRedirects: BROKEN,
    theirs.URLRequired: BROKEN,
    theirs.UnrewindableBodyError: BROKEN,
    below.BodyNotHttplibCompatible: BROKEN,
    below.ClosedPoolError: BROKEN,
    below.ConnectTimeoutError: UNREACHABLE,
    below.DecodeError: BROKEN,
    below.EmptyPoolError: BROKEN,
    below.FullPoolError: BROKEN,
    below.HTTPError: BROKEN,
    below.HeaderParsingError: BROKEN,
    below.HostChangedError: BROKEN,
    below.IncompleteRead: BROKEN,
    below.InvalidChunkLength: BROKEN,
    below.InvalidHeader: BROKEN,
    below.LocationParseError: BROKEN,
    below.LocationValueError: BROKEN,
    below.MaxRetryError: BROKEN,
    below.NameResolutionError: UNREACHABLE,
    below.NewConnectionError: UNREACHABLE,
    below.PoolError: BROKEN,
    below.ProtocolError: BROKEN,
    below.ProxyError: UNREACHABLE,
    below.ProxySchemeUnknown: BROKEN,
    below.ReadTimeoutError: TIMEOUT,
    below.RequestError: BROKEN,
    below.ResponseError: BROKEN,
    below.ResponseNotChunked: BROKEN,
    below.SSLError: UNREACHABLE,
    below.TimeoutError: TIMEOUT,
    below.TimeoutStateError: BROKEN,
    below.URLSchemeUnknown: BROKEN,
    below.UnrewindableBodyError: BROKEN,
}

NEVER_RAISED: set[type[BaseException]] = {
    # Warnings.
    theirs.FileModeWarning,
    theirs.RequestsDependencyWarning,
    theirs.RequestsWarning,
    below.DependencyWarning,
    below.HTTPWarning,
    below.InsecurePlatformWarning,
    below.InsecureRequestWarning,
    below.NotOpenSSLWarning,
    below.SecurityWarning,
    below.SystemTimeWarning,
    # For HTTPS proxies only, of which we use none.
    below.ProxySchemeUnsupported,
}

SAMPLES: dict[type[BaseException], tuple[object, ...]] = {
    theirs.JSONDecodeError: ("no JSON", "{", 0),
    below.ClosedPoolError: (POOL, "closed"),
    below.EmptyPoolError: (POOL, "empty"),
    below.FullPoolError: (POOL, "full"),
    below.HeaderParsingError: ([], b""),
    below.HostChangedError: (POOL, "/"),
    below.IncompleteRead: (1, 2),
    below.InvalidChunkLength: (RESPONSE, b"xyz"),
    below.LocationParseError: ("http://",),
    below.MaxRetryError: (POOL, "/"),
    below.NameResolutionError: ("chutes.test", CONNECTION, socket.gaierror()),
    below.NewConnectionError: (CONNECTION, "refused"),
    below.PoolError: (POOL, "broken"),
    below.ProxyError: ("no proxy", OSError()),
    below.ProxySchemeUnknown: ("ftp",),
    below.ReadTimeoutError: (POOL, "/", "too late"),
    below.RequestError: (POOL, "/", "broken"),
    below.URLSchemeUnknown: ("ftp",),
}
"""What the constructors need that take more than nothing."""


def classes_of(module: ModuleType) -> set[type[BaseException]]:
    """The exceptions that a module defines itself, under whatever name it shows them."""
    return {
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("module", [theirs, below])
def test_every_exception_class_of_both_libraries_is_in_the_table(module: ModuleType) -> None:
    listed = {kind for kind in [*OUR_CLASS, *NEVER_RAISED] if kind.__module__ == module.__name__}

    assert classes_of(module) == listed


def test_no_class_is_in_the_table_and_among_those_never_raised() -> None:
    assert not OUR_CLASS.keys() & NEVER_RAISED


@pytest.mark.parametrize("kind", OUR_CLASS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_exception_of_the_libraries_is_one_of_ours(kind: type[BaseException]) -> None:
    error = kind(*SAMPLES.get(kind, ()))

    assert isinstance(error, LIBRARY_ERRORS)
    assert type(error_of_exception(error, sent=False)) is OUR_CLASS[kind]


@pytest.mark.parametrize("kind", OUR_CLASS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_nothing_is_unreachable_once_the_body_left(kind: type[BaseException]) -> None:
    error = kind(*SAMPLES.get(kind, ()))
    expected = OUR_CLASS[kind] if OUR_CLASS[kind] is not UNREACHABLE else BROKEN

    assert type(error_of_exception(error, sent=True)) is expected


def max_retry(reason: Exception) -> below.MaxRetryError:
    return below.MaxRetryError(POOL, "/", reason)


REFUSED = below.NewConnectionError(CONNECTION, "refused")
READ_TIMEOUT = below.ReadTimeoutError(POOL, "/", "too late")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (requests.ConnectionError(max_retry(REFUSED)), UNREACHABLE),
        (
            requests.ConnectionError(
                max_retry(below.NameResolutionError("chutes.test", CONNECTION, socket.gaierror()))
            ),
            UNREACHABLE,
        ),
        (requests.ConnectTimeout(max_retry(below.ConnectTimeoutError("too late"))), UNREACHABLE),
        (requests.ConnectionError(max_retry(below.ConnectTimeoutError("too late"))), UNREACHABLE),
        (requests.exceptions.SSLError(max_retry(below.SSLError(ssl.SSLError("bad")))), UNREACHABLE),
        (requests.ConnectionError(max_retry(below.SSLError(ssl.SSLError("bad")))), UNREACHABLE),
        (requests.exceptions.ProxyError(max_retry(below.ProxyError("no", OSError()))), UNREACHABLE),
        (max_retry(REFUSED), UNREACHABLE),
        (requests.ConnectionError(READ_TIMEOUT), TIMEOUT),
        (requests.ReadTimeout(READ_TIMEOUT), TIMEOUT),
        (requests.ConnectionError(max_retry(READ_TIMEOUT)), TIMEOUT),
        (requests.ConnectionError(below.ProtocolError("aborted", TimeoutError("timed out"))), TIMEOUT),
        (below.ProtocolError("broken", TimeoutError()), TIMEOUT),
        (TimeoutError("timed out"), TIMEOUT),
        (
            requests.ConnectionError(
                below.ProtocolError("aborted", http.client.RemoteDisconnected("closed without response"))
            ),
            BROKEN,
        ),
        (
            requests.ConnectionError(below.ProtocolError("aborted", ConnectionResetError(104, "reset"))),
            BROKEN,
        ),
        (
            requests.exceptions.ChunkedEncodingError(
                below.ProtocolError("broken", http.client.IncompleteRead(b"", 5))
            ),
            BROKEN,
        ),
        (below.ProtocolError("broken", below.IncompleteRead(3, 5)), BROKEN),
        (below.ProtocolError("broken", below.InvalidChunkLength(RESPONSE, b"x")), BROKEN),
        (requests.exceptions.ContentDecodingError(below.DecodeError("gzip")), BROKEN),
        (requests.exceptions.RetryError(max_retry(below.ResponseError("too many"))), BROKEN),
        (requests.ConnectionError(below.ClosedPoolError(POOL, "closed")), BROKEN),
        (requests.exceptions.InvalidURL(below.LocationParseError("http://")), BROKEN),
        (requests.ConnectionError(), BROKEN),
        (max_retry(below.HTTPError()), BROKEN),
        (ConnectionResetError(104, "reset"), BROKEN),
        (BrokenPipeError(32, "pipe"), BROKEN),
        (OSError(), BROKEN),
    ],
    ids=repr,
)
def test_an_exception_is_judged_by_the_cause_that_it_wraps(
    error: Exception, expected: type[UpstreamError]
) -> None:
    assert isinstance(error, LIBRARY_ERRORS)
    assert type(error_of_exception(error, sent=False)) is expected


def test_causes_in_a_circle_come_to_an_end() -> None:
    outer, inner = requests.ConnectionError(), below.ProtocolError()
    outer.args, inner.args = (inner,), (outer,)

    assert type(error_of_exception(outer, sent=False)) is BROKEN


def test_a_cause_a_thousand_deep_is_found() -> None:
    error: Exception = REFUSED
    for _ in range(1000):
        error = requests.ConnectionError(error)

    assert type(error_of_exception(error, sent=False)) is UNREACHABLE


def test_no_error_of_ours_is_taken_for_one_of_theirs() -> None:
    assert not issubclass(UpstreamError, LIBRARY_ERRORS)


BY_STATUS = {
    401: UpstreamAuthError,
    402: UpstreamQuotaError,
    403: UpstreamAuthError,
    404: UpstreamModelError,
    429: UpstreamBusyError,
    503: UpstreamNoInstanceError,
}


@pytest.mark.parametrize("statuses", [range(100, 200), range(201, 300), range(300, 400)])
def test_a_status_that_is_neither_200_nor_an_error_is_a_failure(statuses: range) -> None:
    assert {type(error_of_status(status)) for status in statuses} == {UpstreamFailedError}


@pytest.mark.parametrize(
    ("statuses", "otherwise"),
    [(range(400, 500), UpstreamRejectedError), (range(500, 600), UpstreamFailedError)],
)
def test_an_error_status_has_its_class(statuses: range, otherwise: type[UpstreamRefusedError]) -> None:
    found = {status: type(error_of_status(status)) for status in statuses}

    assert found == {status: BY_STATUS.get(status, otherwise) for status in statuses}


def test_the_error_keeps_the_status_it_came_from() -> None:
    statuses = [status for status in range(100, 600) if status != 200]

    assert [error_of_status(status).upstream_status for status in statuses] == statuses


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_want_of_files_is_told_from_an_upstream_that_is_away(number: int) -> None:
    wanting = below.NewConnectionError(None, "no")  # type: ignore[arg-type] # the connection is not looked at
    wanting.__cause__ = OSError(number, "too many open files")
    error = requests.ConnectionError(below.MaxRetryError(None, "/", wanting))  # type: ignore[arg-type] # nor the pool
    assert type(error_of_exception(error, sent=False)) is NoFilesError
    assert type(error_of_exception(error, sent=True)) is not NoFilesError
    wanting.__cause__ = OSError(errno.ECONNREFUSED, "refused")
    assert type(error_of_exception(error, sent=False)) is UpstreamUnreachableError
