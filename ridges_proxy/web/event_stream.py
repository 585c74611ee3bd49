"""A stream of events as an answer: it begins as soon as it can, and says at its end how it ended."""

from __future__ import annotations

from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING

import orjson
from flask import Response, g

from ridges_proxy.errors import ClientGoneError, ProxyError
from ridges_proxy.web.error_bodies import openai_error
from ridges_proxy.web.responses import bug
from ridges_proxy.web.run_json import exact_usd

if TYPE_CHECKING:
    from collections.abc import Generator

    from ridges_proxy.calls.service import Call

DONE = b"data: [DONE]\n\n"


def stream_reply(call: Call, pieces: Generator[bytes]) -> Response:
    """Answer with what comes. What is raised before the first piece is an error with a status of its own."""
    request_id = g.request_id
    first = next(pieces)
    response = Response(_told(call, first, pieces, request_id), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep the events back
    response.call_on_close(lambda: _end(call, pieces, request_id))
    return response


def _told(call: Call, first: bytes, pieces: Generator[bytes], request_id: str) -> Generator[bytes]:
    yield first
    try:
        for piece in pieces:  # noqa: UP028 - `yield from` would close them here, where an error has no way out
            yield piece
    except Exception as error:  # noqa: BLE001 - the status has been sent: this is the last place that can tell
        call.failure = _failure(error, request_id)
        _, body = openai_error(call.failure, request_id)
        yield b"data: " + orjson.dumps(body) + b"\n\n" + _cost(call)
    else:
        yield DONE + _cost(call)


def _end(call: Call, pieces: Generator[bytes], request_id: str) -> None:
    """Close what may still be open when the answer is over: the client has left, or it was never begun."""
    if getgeneratorstate(pieces) != GEN_CLOSED:
        call.failure = ClientGoneError()
    try:
        pieces.close()
    except Exception as error:  # noqa: BLE001 - the line in the log is all that can still tell
        call.failure = _failure(error, request_id)


def _failure(error: Exception, request_id: str) -> ProxyError:
    return error if isinstance(error, ProxyError) else bug(error, request_id)


def _cost(call: Call) -> bytes:
    """The run's books as a comment: the headers that tell them elsewhere have long been sent."""
    if call.books is None:
        return b""
    spent, remaining = exact_usd(call.books.spent_nanousd), exact_usd(call.books.remaining_nanousd)
    return f": cost {spent} remaining {remaining}\n\n".encode()
