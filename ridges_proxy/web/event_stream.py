"""A stream of server-sent events as a response."""

from __future__ import annotations

from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ridges_proxy.errors import ClientGoneError, ProxyError
from ridges_proxy.web.error_bodies import openai_status_and_body
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.responses import log_bug
from ridges_proxy.web.run_json import exact_usd
from ridges_proxy.web.service_response import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flask import Response

    from ridges_proxy.calls.call import Call

DONE = b"data: [DONE]\n\n"


class Ending(NamedTuple):
    """The events behind the last piece of a stream."""

    done: bytes
    """The events behind a complete answer."""
    failed: Callable[[dict[str, Any]], bytes]
    """Returns the events behind a failed answer, for the body that the error would have as a response."""


CHAT_ENDING = Ending(DONE, lambda body: b"data: " + orjson.dumps(body) + b"\n\n")
"""The ending of a chat completion."""


def stream_response(call: Call, pieces: Generator[bytes], ending: Ending = CHAT_ENDING) -> Response:
    """A response that sends the pieces as they come.

    Waits for the first piece: an error before it is raised, and is answered with its own status.
    """
    state = request_state()
    request_id, path = state.request_id, state.request.path

    def failed(error: Exception) -> bytes:
        call.failure = _proxy_error(error, request_id)
        _, body = openai_status_and_body(call.failure, path, request_id)
        return ending.failed(body)

    first = next(pieces, b"")  # an answer may have no event but its end
    response = ApiResponse(_stream(call, first, pieces, ending.done, failed), "text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would buffer the events
    response.call_on_close(lambda: _close(call, pieces, request_id))
    return response


def _stream(
    call: Call,
    first: bytes,
    pieces: Generator[bytes],
    done: bytes,
    failed: Callable[[Exception], bytes],
) -> Generator[bytes]:
    """The pieces, then the events of the ending, then the run's cost as a comment."""
    yield first
    try:
        for piece in pieces:  # noqa: UP028 - `yield from` would close `pieces` here: its errors could not be sent
            yield piece
    except Exception as error:  # noqa: BLE001 - the status has been sent: only an event can report it
        yield failed(error) + _cost_comment(call)
    else:
        yield done + _cost_comment(call)


def _close(call: Call, pieces: Generator[bytes], request_id: str) -> None:
    """Close `pieces` when the response is over. They are still open if the client left early."""
    if getgeneratorstate(pieces) != GEN_CLOSED:
        call.failure = ClientGoneError()
    try:
        pieces.close()
    except Exception as error:  # noqa: BLE001 - the response is over: only the log can report it
        call.failure = _proxy_error(error, request_id)


def _proxy_error(error: Exception, request_id: str) -> ProxyError:
    """The error for the client, without its traceback.

    The call keeps the error, and the frames in a traceback refer to the call: that would be a cycle.
    """
    known = error if isinstance(error, ProxyError) else log_bug(error, request_id)
    return known.with_traceback(None)


def _cost_comment(call: Call) -> bytes:
    """The run's amounts and the state of its budget as a comment. A stream's headers are sent too early."""
    if call.run_usage is None:
        return b""
    spent, remaining = exact_usd(call.run_usage.spent_nanousd), exact_usd(call.run_usage.remaining_nanousd)
    return f": cost {spent} remaining {remaining} state {call.budget_state}\n\n".encode()
