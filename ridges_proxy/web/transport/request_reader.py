"""Read the body of a request within limits of time and size, and leave its connection in order."""

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
"""In the environ of a request whose body has been read to its end."""

READ_BYTES = 16_384
"""Of a body at once. In chunks of one byte they cost gunicorn's parser 50 ms, for which all others wait."""

TURN_SECONDS = 0.01
"""What has come already is read without a wait: after its turn a reader pauses for the others, and for its
own time limit."""

DROPPED_BYTES = 65_536
"""A body that nobody reads is taken off the connection up to this size; above it the connection is closed."""

LINGER_BYTES = 1 << 20
LINGER_SECONDS = 2.0
"""For a client to stop sending what nobody reads, and to see its answer."""


def finish(environ: WSGIEnvironment, lingering: ConnectionLimit) -> bool:
    """Leave the connection as the next request needs it; False if it must be closed instead.

    Gunicorn would read the rest of a body that nobody has read however long it is, at a cost that stops
    the whole process, and under the limit that was meant for writes.
    """
    sock = environ.get("gunicorn.socket")
    if sock is None:
        return True
    sock.settimeout(None)
    if _body_is_over(environ, lingering):
        return True
    _linger(sock, lingering.turn(LINGER_SECONDS))
    return False


def _body_is_over(environ: WSGIEnvironment, lingering: ConnectionLimit) -> bool:
    """Whether no byte of the body is left to come, once a small rest has been dropped."""
    if environ["wsgi.input"].failed:
        return False
    announced = 0 if environ.get(BODY_READ) else _announced_bytes(environ)
    if announced is None or announced > DROPPED_BYTES:
        return False
    if not announced:
        return True
    try:
        _read(environ, announced, lingering.turn(LINGER_SECONDS))
    except RefusedError:
        return False
    return True


def _linger(sock: socket, turn: LimitedWait) -> None:
    """Say that nothing more will come, and wait until the client has seen it.

    To close on bytes that nobody has read would reset the connection, and so take the answer away.
    """
    with suppress(OSError, BodyTimeoutError), turn:
        sock.shutdown(SHUT_WR)
        while sock.recv(LINGER_BYTES):
            pause()


def read_body(environ: WSGIEnvironment, max_bytes: int, turn: LimitedWait) -> bytes:
    """The whole body, in either framing, as long as the turn lasts.

    Raises BodyTooLargeError (announced or found), BodyTruncatedError or BodyTimeoutError.
    """
    announced = _announced_bytes(environ)
    if announced is not None and announced > max_bytes:
        raise BodyTooLargeError
    # One more than allowed, to see that a chunked body goes on: a limit on the reader would cut it silently.
    body = _read(environ, max_bytes + 1 if announced is None else announced, turn)
    if len(body) > max_bytes:
        raise BodyTooLargeError
    if announced is not None and len(body) < announced:
        raise BodyTruncatedError
    environ[BODY_READ] = True
    return body


def _announced_bytes(environ: WSGIEnvironment) -> int | None:
    """Content-Length; None for a chunked body, 0 where there is neither."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    length_bytes = content_length.bytes_of(environ.get("CONTENT_LENGTH") or "0")
    if length_bytes is None:
        raise BodyTruncatedError
    return length_bytes


def _read(environ: WSGIEnvironment, size_bytes: int, turn: LimitedWait) -> bytes:
    body = bytearray()
    turn_ends_at = time.monotonic() + TURN_SECONDS
    try:
        with turn:
            while piece := environ["wsgi.input"].read(min(READ_BYTES, size_bytes - len(body))):
                body += piece
                turn.note_bytes(len(piece))
                if time.monotonic() > turn_ends_at:
                    pause()
                    turn_ends_at = time.monotonic() + TURN_SECONDS
    except (ParseException, OSError):
        raise BodyTruncatedError from None
    return bytes(body)
