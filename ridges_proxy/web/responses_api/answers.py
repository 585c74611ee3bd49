"""Answers of the upstream to a chat, as a whole response or as the events of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.calls.stream_relay import HEARTBEAT
from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.chunk_tokens import is_done, to_json
from ridges_proxy.upstream.large_json import parse_large_json
from ridges_proxy.upstream.sse import EventReader
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from ridges_proxy.web.responses_api.stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import Generator

    from ridges_proxy.web.responses_api.response_object import ResponseForm


def response_json(form: ResponseForm, completion: bytes) -> bytes:
    """The JSON of the response to a request without a stream. A completion above LARGE_BYTES needs a thread.

    Raises UpstreamBrokenError for a completion that cannot be read or written: an upstream may nest values
    too deeply, or send lone surrogates.
    """
    stream = ResponseStream(form, whole=True)
    stream.add(_parsed(completion))
    stream.end()
    return to_json(stream.response)


def _parsed(completion: bytes) -> Any:  # noqa: ANN401 - any JSON
    """The value of a completion. In a large one, each log probability is JSON again before the next is read.

    So other threads can run in between: to parse, write and free 10 MB at once stops them for 0.8 s.
    """
    if len(completion) <= LARGE_BYTES:
        return orjson.loads(completion)
    try:
        _, value = parse_large_json(completion, _with_written_log_probability)
    except ValueError:
        raise UpstreamBrokenError from None
    return value


def _with_written_log_probability(value: dict[str, Any]) -> dict[str, Any] | orjson.Fragment:
    return orjson.Fragment(to_json(value)) if "logprob" in value else value


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
