"""Reading of request bodies within limits of time and size, and the handling of unread bodies."""

from __future__ import annotations

import time
from contextlib import suppress
from socket import SHUT_WR, socket
from typing import TYPE_CHECKING

from gunicorn.http.errors import ParseException

from ridges_proxy.errors import BodyTimeoutError, BodyTooLargeError, BodyTruncatedError, RefusedError
from ridges_proxy.runtime import content_length
from ridges_proxy.runtime.cooperative import pause

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ridges_proxy.runtime.connection_limits import ConnectionLimit, LimitedWait

BODY_READ = "ridges_proxy.body_read"
"""Key in the environ of a request whose body was read to its end."""

BODY_BYTES = "ridges_proxy.body_bytes"
"""Key in the environ of the number of bytes in that body."""

READ_BYTES = 16_384
CHUNKED_READ_BYTES = 1_024
"""Read sizes. If 1,024 bytes come in chunks of one byte, gunicorn's parser takes 3 ms, and all other requests
wait."""

PAUSE_INTERVAL_SECONDS = 0.0005
"""Data that has already arrived is read without a wait. After this time the reader yields to other greenlets,
and its own time limit can take effect. Eight bodies at once then keep the others waiting for 4 ms."""

MAX_DROPPED_BYTES = 65_536
"""An unread body is read and dropped up to this size. Above it the connection is closed instead."""

LINGER_BYTES = 1 << 20
LINGER_SECONDS = 2.0
"""How long to wait until a client stops sending an unread body and reads its response."""


def finish(environ: WSGIEnvironment, lingering: ConnectionLimit) -> bool:
    """Prepare the connection for its next request. Returns False if it must be closed instead.

    Gunicorn alone would read the rest of an unread body whatever its size. That would stop the whole
    process, and would run under the time limit meant for writes.
    """
    sock = environ.get("gunicorn.socket")
    if sock is None:
        return True
    sock.settimeout(None)
    if _is_body_consumed(environ, lingering):
        return True
    _linger(sock, lingering.wait(LINGER_SECONDS))
    return False


def _is_body_consumed(environ: WSGIEnvironment, lingering: ConnectionLimit) -> bool:
    """Whether the body was read to its end. Reads and drops a small rest."""
    if environ["wsgi.input"].failed:
        return False
    unread_bytes = 0 if environ.get(BODY_READ) else _content_length(environ)
    if unread_bytes is None or unread_bytes > MAX_DROPPED_BYTES:
        return False
    if not unread_bytes:
        return True
    try:
        _read(environ, unread_bytes, lingering.wait(LINGER_SECONDS))
    except RefusedError:
        return False
    return True


def _linger(sock: socket, wait: LimitedWait) -> None:
    """Send the end of the stream, and wait until the client has closed its side.

    Closing a socket that has unread bytes resets the connection, and the client may then lose its response.
    """
    with suppress(OSError, BodyTimeoutError), wait:
        sock.shutdown(SHUT_WR)
        while sock.recv(LINGER_BYTES):
            pause()


def read_body(environ: WSGIEnvironment, max_bytes: int, wait: LimitedWait) -> bytes:
    """The whole body, with a Content-Length or in chunks, read while `wait` lasts.

    Raises BodyTooLargeError (by the Content-Length or by what was read), BodyTruncatedError or
    BodyTimeoutError.
    """
    length_bytes = _content_length(environ)
    if length_bytes is not None and length_bytes > max_bytes:
        raise BodyTooLargeError
    if length_bytes is None:
        # One byte above the limit shows that it is too large. Reading up to the limit would cut it.
        body = _read(environ, max_bytes + 1, wait, CHUNKED_READ_BYTES)
    else:
        body = _read(environ, length_bytes, wait)
    environ[BODY_BYTES] = read_bytes = len(body)
    if read_bytes > max_bytes:
        raise BodyTooLargeError
    if length_bytes is not None and read_bytes < length_bytes:
        raise BodyTruncatedError
    environ[BODY_READ] = True
    return body


def _content_length(environ: WSGIEnvironment) -> int | None:
    """The Content-Length in bytes; None for a chunked body, 0 without a body."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    length_bytes = content_length.bytes_of(environ.get("CONTENT_LENGTH") or "0")
    if length_bytes is None:
        raise BodyTruncatedError
    return length_bytes


def _read(
    environ: WSGIEnvironment, size_bytes: int, wait: LimitedWait, piece_bytes: int = READ_BYTES
) -> bytes:
    body = bytearray()
    pause_at = time.monotonic() + PAUSE_INTERVAL_SECONDS
    try:
        with wait:
            while (left_bytes := size_bytes - len(body)) and (
                piece := environ["wsgi.input"].read(min(piece_bytes, left_bytes))
            ):
                body += piece
                wait.add_bytes(len(piece))
                if time.monotonic() > pause_at:
                    pause()
                    pause_at = time.monotonic() + PAUSE_INTERVAL_SECONDS
    except (ParseException, OSError):
        raise BodyTruncatedError from None
    return bytes(body)
