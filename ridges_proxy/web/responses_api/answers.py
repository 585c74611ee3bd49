"""Answers of the upstream to a chat, as a whole response or as the events of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.upstream.chunk_tokens import is_done
from ridges_proxy.upstream.sse import EventReader
from ridges_proxy.web.responses_api.stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import Generator

    from ridges_proxy.web.responses_api.response_object import ResponseForm


def whole_response(form: ResponseForm, completion: bytes) -> dict[str, Any]:
    """The response to a request without a stream."""
    stream = ResponseStream(form, whole=True)
    stream.add(orjson.loads(completion))
    stream.end()
    return stream.response


def response_events(pieces: Generator[bytes], stream: ResponseStream) -> Generator[bytes]:
    """The events of a response for the pieces of a chat's stream. Heartbeats are passed on.

    Closing the generator closes `pieces`.
    """
    reader = EventReader()
    try:
        for piece in pieces:
            if piece == HEARTBEAT:
                yield piece
            else:
                events = reader.feed(piece)
                yield b"".join(stream.add(orjson.loads(event.data)) for event in events if not is_done(event))
    finally:
        pieces.close()
    yield stream.end()
