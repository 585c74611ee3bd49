"""The Chutes client: one streamed chat completion or one embedding, every failure one of ours."""

from __future__ import annotations

from collections import deque
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from requests import PreparedRequest

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS
from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.body_reader import (
    MOST_RELAY_REST_SECONDS,
    MOST_REST_SECONDS,
    Pace,
    drain,
    pieces_of,
)
from ridges_proxy.upstream.byte_budget import BufferedBody, ByteBudget
from ridges_proxy.upstream.error_text import refusal_words
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status
from ridges_proxy.upstream.http.adapter import Adapter, RequestBody
from ridges_proxy.upstream.sse import EventReader
from ridges_proxy.upstream.stream_reader import RelayedCompletion, TextCompletion
from ridges_proxy.upstream.whole_answer import note_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import requests

    from ridges_proxy.config import Settings
    from ridges_proxy.upstream.attempt import Attempt
    from ridges_proxy.upstream.sse import Event
    from ridges_proxy.upstream.stream_reader import Completion


MAX_JSON_BYTES = 32 << 20
"""Limit of a chat completion that is not streamed: 16,384 tokens with 20 alternatives each.

Parsed JSON may take twenty times its bytes for a moment.
"""

MAX_VECTOR_BYTES = 256 << 10
"""Limit of one vector: 8,192 numbers of 32 characters, twice as many as any known model returns."""


def _nothing() -> None:
    """Do nothing."""


class ChutesClient:
    """Calls Chutes with our key. Made once a process, after the fork; for any number of greenlets.

    Both calls raise UpstreamError's kinds only, and leave on the attempt what its cost is judged by.
    The total deadline is the caller's to set: it may raise inside either call at any wait.
    """

    def __init__(self, settings: Settings) -> None:
        self._chat_url = f"{settings.chutes_base_url}/chat/completions"
        self._embedding_url = settings.chutes_embedding_url
        self._timeouts = (settings.connect_timeout_seconds, settings.idle_timeout_seconds)
        self._json_timeouts = (settings.connect_timeout_seconds, settings.deadline_seconds)
        self._adapter = Adapter(settings.max_concurrent_calls)
        self._key = settings.chutes_api_key
        self._pace = Pace()
        self.body_budget = ByteBudget()
        self._headers = {
            "Authorization": f"Bearer {settings.chutes_api_key}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # gzip held every event back to the end of the stream
            "User-Agent": "ridges-proxy",
        }

    def text(self, body: bytes, attempt: Attempt) -> str:
        """Send a chat completion with `stream: true` and return the whole text of its first choice."""
        completion = TextCompletion(attempt)
        self._stream(body, attempt, completion, MOST_REST_SECONDS)
        return completion.text()

    def relay(
        self, body: bytes, attempt: Attempt, put: Callable[[bytes], None], *, shows_usage: bool
    ) -> None:
        """Send a chat completion with `stream: true`; put an empty piece at the 200, then each event."""
        completion = RelayedCompletion(attempt, put, shows_usage=shows_usage)
        self._stream(body, attempt, completion, MOST_RELAY_REST_SECONDS, began=lambda: put(b""))
        completion.check_complete()

    def complete_json(self, body: bytes, attempt: Attempt) -> BufferedBody:
        """Send a chat completion with `stream: false` and return the unchanged JSON. The caller releases it.

        The idle timeout does not apply: the upstream sends nothing until the response is complete.
        """
        answer = BufferedBody(self.body_budget, MAX_JSON_BYTES)
        try:
            with self._post(self._chat_url, body, attempt, self._json_timeouts) as response:
                try:
                    answer.read(pieces_of(response))
                finally:
                    attempt.received_tokens = answer.received_bytes  # all that is known of a partial response
            note_whole(answer.content, attempt)
        except BaseException:
            answer.release()
            raise
        return answer

    def embed(self, body: bytes, attempt: Attempt, count: int = 1) -> BufferedBody:
        """Send `count` texts and return the unchanged JSON of their vectors. The caller releases it."""
        answer = BufferedBody(self.body_budget, count * MAX_VECTOR_BYTES)
        try:
            with self._post(self._embedding_url, body, attempt, self._timeouts) as response:
                answer.read(pieces_of(response))
            _check_json(answer.content)
        except BaseException:
            answer.release()
            raise
        attempt.complete = True
        return answer

    def _stream(
        self,
        body: bytes,
        attempt: Attempt,
        completion: Completion,
        most_rest_seconds: float,
        began: Callable[[], None] = _nothing,
    ) -> None:
        with self._pace, self._post(self._chat_url, body, attempt, self._timeouts) as response:
            began()
            pieces = pieces_of(response, self._pace, most_rest_seconds)
            try:
                _read_events(pieces, completion, attempt)
                drain(response)
            except LIBRARY_ERRORS:
                if not attempt.complete:
                    raise

    @contextmanager
    def _post(
        self, url: str, body: bytes, attempt: Attempt, timeouts: tuple[float, float]
    ) -> Iterator[requests.Response]:
        """Post the body and yield the answer to a 200; closed at the end, back in the pool if read whole."""
        try:
            request = self._request(url, body, attempt)
            with closing(self._adapter.send(request, stream=True, timeout=timeouts)) as response:
                self._check_status(response, attempt)
                yield response
        except LIBRARY_ERRORS as error:
            raise error_of_exception(error, sent=attempt.sent) from error
        finally:
            attempt.end()

    def _request(self, url: str, body: bytes, attempt: Attempt) -> PreparedRequest:
        request = PreparedRequest()
        request.method = "POST"
        request.url = url
        request.headers = {**self._headers, "Content-Length": str(len(body))}  # type: ignore[assignment] # a dict is as good, and copied faster
        request.body = RequestBody(body, attempt)  # type: ignore[assignment] # a file is as good, says its documentation
        return request

    def _check_status(self, response: requests.Response, attempt: Attempt) -> None:
        attempt.begin()
        attempt.upstream_status = response.status_code
        if response.status_code != HTTPStatus.OK:
            # Below 300 no refusal has been spoken: the upstream may go on to work, and bill.
            attempt.refused = response.status_code >= HTTPStatus.MULTIPLE_CHOICES
            words = refusal_words(drain(response), self._key)
            raise error_of_status(response.status_code, words)
        attempt.answering = True
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            attempt.received_tokens = MAX_COUNTED_TOKENS  # what is not read may count anything
            raise UpstreamBrokenError


def _check_json(content: bytes) -> None:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        raise UpstreamBrokenError from None


def _read_events(pieces: Iterable[bytes], completion: Completion, attempt: Attempt) -> None:
    reader = EventReader()
    events: deque[Event] = deque()
    try:
        for piece in pieces:
            events.extend(reader.feed(piece))
            if events:
                attempt.note_event()
            while events and not completion.done:
                completion.add(events.popleft())
            if completion.done:
                return
        events.extend(reader.close())
        while events:
            completion.add(events.popleft())
    finally:
        completion.count_unread(events, reader.unread_bytes)
