"""Why a Redis cannot be used, for the operator. No text is redis-py's: those may quote what was sent."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from redis import exceptions
from redis.sentinel import MasterNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError, UnicodeError)
"""All errors of a client. RedisClusterException is no RedisError; a host name can cause a UnicodeError."""

_NO_TLS = "there is no TLS connection: it offers no TLS, or a certificate file is not right"
_NO_LOGIN = "it needs a password, or a user and a password"
_LATE = "it did not answer in time (LEDGER_TIMEOUT_SECONDS)"

_REASONS: tuple[tuple[type[Exception] | str, str], ...] = (
    (socket.gaierror, "its host name is not known"),
    (UnicodeError, "its host name is not valid"),
    (ConnectionRefusedError, "it refuses connections, or it does not run"),
    ("handshake operation timed out", _NO_TLS),
    (ssl.SSLCertVerificationError, "its certificate is not valid for the host, or its CA is not known"),
    (ssl.SSLError, _NO_TLS),
    (FileNotFoundError, "a file that its options name does not exist"),
    (PermissionError, "a file that its options name cannot be read"),
    ("Authentication required", _NO_LOGIN),
    (exceptions.AuthenticationError, "its user or its password is wrong"),
    (exceptions.NoPermissionError, "its user may not use all commands and keys that the ledger needs (ACL)"),
    (exceptions.ReadOnlyError, "it is a replica, which cannot be written to"),
    (exceptions.OutOfMemoryError, "its memory is full (maxmemory)"),
    (exceptions.BusyLoadingError, "it is still loading its data"),
    (exceptions.ClusterDownError, "its cluster is down"),
    (exceptions.InvalidResponse, "it is no Redis: its reply has another form"),
    ("DB index is out of range", "it has no database with this number"),
    ("Cluster mode is not enabled", "its cluster mode is off"),
    ("unknown command 'SENTINEL'", "it is no sentinel"),
    ("MISCONF", "it refuses writes, because it cannot save them to its disk"),
    ("NOREPLICAS", "it refuses writes, because too few replicas are connected"),
    (exceptions.ResponseError, "it refused a command"),
    (TimeoutError, _LATE),
    (exceptions.TimeoutError, _LATE),
    (MasterNotFoundError, "no sentinel answers that knows a master of this service"),
    (ConnectionError, "it closed the connection"),
    (OSError, "its host cannot be reached"),
    (exceptions.ConnectionError, "it closed the connection"),
    (exceptions.RedisClusterException, "no node of the cluster answers"),
)
"""Types of errors, or parts of their texts, with the reasons. The first that applies counts."""


def reason_of(error: BaseException) -> str:
    """Return the reason why a Redis cannot be used. It follows the server's URL."""
    chain = list(_chain(error))
    for what, reason in _REASONS:
        for each in chain:
            if what in str(each) if isinstance(what, str) else isinstance(each, what):
                return reason
    return "it does not answer"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
