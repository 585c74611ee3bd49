"""The Chutes client: chat completions and embeddings. Every failure becomes an error of this package."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from requests import PreparedRequest
from urllib3 import Timeout

from ridges_proxy.billing.chat_request import without_chunk_usage
from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS
from ridges_proxy.errors import UpstreamBrokenError, UpstreamRejectedError
from ridges_proxy.runtime.cooperative import pause
from ridges_proxy.runtime.tracebacks import drop_tracebacks
from ridges_proxy.upstream.answer_ids import invocation_id_in
from ridges_proxy.upstream.body_reader import (
    MAX_PAUSE_SECONDS,
    MAX_RELAY_PAUSE_SECONDS,
    ReadPacer,
    drain,
    read_pieces,
)
from ridges_proxy.upstream.byte_budget import BufferedBody, ByteBudget, released_on_error
from ridges_proxy.upstream.chunk_usage import ChunkUsageOption, is_refusal
from ridges_proxy.upstream.error_text import read_error_names, read_error_text
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status
from ridges_proxy.upstream.http.adapter import Adapter, RequestBody
from ridges_proxy.upstream.json_completion import record_json_completion
from ridges_proxy.upstream.message_reader import MessageStreamReader
from ridges_proxy.upstream.retry_after import retry_after_seconds
from ridges_proxy.upstream.stream_events import read_events
from ridges_proxy.upstream.stream_reader import RelayStreamReader, TextStreamReader
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from ridges_proxy.upstream.vectors import MAX_VECTOR_BYTES, NoVectorsError, parsed_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from ridges_proxy.config import Settings
    from ridges_proxy.upstream.attempt import Attempt
    from ridges_proxy.upstream.message_reader import AnswerMessage
    from ridges_proxy.upstream.stream_reader import StreamReader


MAX_JSON_BYTES = 32 << 20
"""Limit of a chat completion that is not streamed: 16,384 tokens with 20 alternatives each.

Parsed JSON may take twenty times its bytes for a moment.
"""

NUMBER_BYTES = 20
"""Size of a number of a vector in JSON."""


class ChutesClient:
    """A client that calls Chutes with the proxy's key.

    One per process, created after the fork and shared by all greenlets. All calls raise only subclasses of
    UpstreamError, and record on the attempt the facts that decide its cost. The caller sets the total
    deadline: its exception may be raised whenever a call waits.
    """

    def __init__(self, settings: Settings) -> None:
        self._chat_url = f"{settings.chutes_base_url}/chat/completions"
        self._embedding_url = settings.chutes_embedding_url
        connect_seconds = settings.connect_timeout_seconds
        self._stream_timeouts = Timeout(connect=connect_seconds, read=settings.idle_timeout_seconds)
        self._whole_timeouts = Timeout(connect=connect_seconds, read=settings.whole_idle_timeout_seconds)
        self._embedding_timeouts = Timeout(
            connect=connect_seconds, read=settings.embedding_idle_timeout_seconds
        )
        self._adapter = Adapter(settings.max_concurrent_calls)
        self._key = settings.chutes_api_key
        self._pacer = ReadPacer()
        self._chunk_usage = ChunkUsageOption()
        self.body_budget = ByteBudget()
        self._headers = {
            "Authorization": f"Bearer {settings.chutes_api_key}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # with gzip all events arrived at the end of the stream
            "User-Agent": "ridges-proxy",
        }

    def close_idle(self) -> None:
        """Close the connections that no call has used for some seconds. A background task."""
        self._adapter.close_idle()

    def text(self, body: bytes, attempt: Attempt) -> str:
        """Send a chat completion with `stream: true` and return the text of its first choice."""
        reader = TextStreamReader(attempt, self._key)
        self._stream(body, attempt, reader, MAX_PAUSE_SECONDS)
        return reader.text()

    def message(self, body: bytes, attempt: Attempt) -> AnswerMessage:
        """Send a chat completion with `stream: true` and return the message of its first choice."""
        reader = MessageStreamReader(attempt, self._key)
        self._stream(body, attempt, reader, MAX_PAUSE_SECONDS)
        return reader.message()

    def relay(  # noqa: PLR0913 - each part of the usage may be shown or not
        self,
        body: bytes,
        attempt: Attempt,
        put: Callable[[bytes], None],
        *,
        shows_usage: bool,
        shows_chunk_usage: bool = False,
        keeps_usage: bool = False,
    ) -> bytes | None:
        """Send a chat completion with `stream: true`, and call `put` with each of its events.

        Returns the data of one more event, with the usage, if the client is to get it and has not yet.
        """
        reader = RelayStreamReader(
            attempt,
            put,
            shows_usage=shows_usage,
            shows_chunk_usage=shows_chunk_usage,
            keeps_usage=keeps_usage,
            redacted=self._key,
        )
        self._stream(body, attempt, reader, MAX_RELAY_PAUSE_SECONDS)
        reader.check_complete()
        return reader.unshown_usage()

    def complete_json(self, body: bytes, attempt: Attempt) -> BufferedBody:
        """Send a chat completion with `stream: false` and return what came. The caller releases it.

        The upstream sends nothing until the response is complete, so all its tokens may be billed from the
        first byte on. Data that is no completion does not show how many these are. `record_json` reads it.
        """
        attempt.in_one_piece = True
        with released_on_error() as keep:
            answer = keep(BufferedBody(self.body_budget, MAX_JSON_BYTES))
            with self._post(self._chat_url, body, attempt, self._whole_timeouts) as response:
                try:
                    answer.read(read_pieces(response))
                finally:
                    attempt.received_tokens = answer.received_bytes  # all that is known of a partial response
        return answer

    def record_json(self, answer: BufferedBody, attempt: Attempt) -> None:
        """Record what a chat completion in one piece shows, and make it strict JSON.

        Raises what `record_json_completion` raises. One above LARGE_BYTES should be read in a thread.
        """
        answer.content = record_json_completion(answer.content, attempt, self._key)

    def embed(self, bodies: Sequence[bytes], attempt: Attempt, count: int = 1) -> BufferedBody:
        """Send `count` texts in one or more bodies, and return the unchanged JSON of their vectors.

        The caller releases it. The bodies are sent one after another. A response that is no list is an error
        of the upstream: the bodies after it are not sent.
        """
        with released_on_error() as keep:
            answer = keep(BufferedBody(self.body_budget, count * MAX_VECTOR_BYTES))
            for body in bodies:
                if attempt.complete:
                    attempt.record_next_request()
                with self._post(self._embedding_url, body, attempt, self._embedding_timeouts) as response:
                    answer.read(read_pieces(response))
                _check_json(answer.content)
                attempt.complete = True
                if not answer.content.lstrip().startswith(b"["):
                    break
        return answer

    def _stream(self, body: bytes, attempt: Attempt, reader: StreamReader, max_pause_seconds: float) -> None:
        """Send the request; and once more without the usage in each chunk, if the upstream refuses that."""
        url, model = self._chat_url, attempt.upstream_model
        accepted_body = self._chunk_usage.body_for(body, url, model)
        try:
            self._read_stream(accepted_body, attempt, reader, max_pause_seconds)
        except UpstreamRejectedError:
            plain_body = without_chunk_usage(accepted_body)
            if not attempt.option_refused or plain_body == accepted_body:
                raise
            attempt.forget_refusal()
            try:
                self._read_stream(plain_body, attempt, reader, max_pause_seconds)
            finally:
                # The message of a refusal may quote the request: only a request that is accepted without the
                # option proves that the option was refused.
                if attempt.began:
                    self._chunk_usage.remember_refusal(url, model)

    def _read_stream(
        self, body: bytes, attempt: Attempt, reader: StreamReader, max_pause_seconds: float
    ) -> None:
        with self._pacer, self._post(self._chat_url, body, attempt, self._stream_timeouts) as response:
            pieces = read_pieces(response, self._pacer, max_pause_seconds)
            try:
                read_events(pieces, reader, attempt)
                drain(response)
            except (*LIBRARY_ERRORS, UpstreamBrokenError):
                if not attempt.complete:
                    raise  # a fault behind a complete response ends the reading

    @contextmanager
    def _post(
        self, url: str, body: bytes, attempt: Attempt, timeouts: Timeout
    ) -> Iterator[requests.Response]:
        """Post the body and yield the response if its status is 200.

        At the end the response is closed. If it was read completely, its connection returns to the pool.
        """
        try:
            request = self._request(url, body, attempt)
            sent = self._adapter.send(request, stream=True, timeout=timeouts)  # type: ignore[arg-type] # documented
            with closing(sent) as response:
                self._check_status(response, attempt)
                yield response
        except LIBRARY_ERRORS as error:
            drop_tracebacks(error)
            raise error_of_exception(error, sent=attempt.sent) from error
        finally:
            attempt.record_end()

    def _request(self, url: str, body: bytes, attempt: Attempt) -> PreparedRequest:
        request = PreparedRequest()
        request.method = "POST"
        request.url = url
        request.headers = {**self._headers, "Content-Length": str(len(body))}  # type: ignore[assignment] # a dict works, and is copied faster
        request.body = RequestBody(body, attempt)  # type: ignore[assignment] # its documentation allows a file
        return request

    def _check_status(self, response: requests.Response, attempt: Attempt) -> None:
        attempt.record_status(response.status_code)
        attempt.invocation_id = invocation_id_in(response.headers)
        if response.status_code != HTTPStatus.OK:
            error_body = drain(response)
            attempt.option_refused = is_refusal(attempt, error_body)
            headers = response.headers
            raise error_of_status(
                response.status_code,
                read_error_text(error_body, self._key),
                read_error_names(error_body, self._key),
                retry_after_seconds(headers.get("Retry-After"), headers.get("Date"), datetime.now(UTC)),
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            attempt.received_tokens = MAX_COUNTED_TOKENS  # the number of tokens in an unread body is unknown
            raise UpstreamBrokenError


def _check_json(content: bytes) -> None:
    """Raise UpstreamBrokenError for data that is no JSON. Several vectors are checked one by one."""
    if len(content) > LARGE_BYTES:
        if _are_vectors(content):
            return
        if len(content) > MAX_VECTOR_BYTES:  # no error is so large, and to parse it could take seconds
            raise UpstreamBrokenError
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        raise UpstreamBrokenError from None


def _are_vectors(content: bytes) -> bool:
    """Whether the content is a list of lists. Other greenlets run in between."""
    parsed_bytes = 0
    try:
        for vector in parsed_vectors(content):
            parsed_bytes += len(vector) * NUMBER_BYTES
            if parsed_bytes > LARGE_BYTES:
                parsed_bytes = 0
                pause()
    except NoVectorsError:
        return False
    return True
