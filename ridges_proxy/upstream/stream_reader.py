"""Reading of one streamed chat completion, event by event. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.prices import Usage
from ridges_proxy.errors import UpstreamBrokenError, UpstreamOverranError
from ridges_proxy.upstream.answer_ids import usable_id
from ridges_proxy.upstream.chunk_shape import shape_of
from ridges_proxy.upstream.chunk_tokens import (
    has_content,
    is_done,
    max_tokens_of,
    max_tokens_of_invalid,
    max_tokens_of_unread,
    optional_list,
    parse_chunk,
    text_bytes_of,
    to_json,
)
from ridges_proxy.upstream.error_object import error_in_place, text_inside_stream
from ridges_proxy.upstream.stream_tries import TryCounters
from ridges_proxy.upstream.usage import parse_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ridges_proxy.upstream.attempt import Attempt
    from ridges_proxy.upstream.chunk_shape import AlikeEvents, ChunkShape
    from ridges_proxy.upstream.sse import Event

SMALL_DELTA_BYTES = 16
"""Of smaller deltas the bytes of JSON are counted as text. That is faster, and proves no tokens."""

SHARED_FIELDS = frozenset({"id", "object", "created", "model"})
"""Fields of a chunk that are the same in all chunks of an answer."""

MAX_UNUSED_SHAPES = 3
"""Shapes of chunks that were found and never met again. After them no more are looked for.

Some upstreams give each chunk an id of its own.
"""

FAILURE_TEXTS = ("Internal Server Error", "exhausted all available targets")
"""Texts that the upstream sends as content when it has failed."""


def event_of(data: bytes) -> bytes:
    """Return an event with this data, as it is sent to the client."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


class StreamReader:
    """Reader that records on the attempt what a stream shows about its cost, and whether it is complete.

    When the upstream starts another try inside the stream, the completion starts again. All tokens that were
    received still count.
    """

    def __init__(self, attempt: Attempt, redacted: str = "") -> None:
        """`redacted` is a text that may not be in the message of an error."""
        self.done = False
        self._redacted = redacted
        self._attempt = attempt
        self._counters = TryCounters(attempt)
        self._shape: ChunkShape | None = None
        """The shape of the last chunk, if those like it need not be parsed."""
        self._shapes_left = MAX_UNUSED_SHAPES

    @property
    def knows_shape(self) -> bool:
        """Whether chunks like the last one need not be parsed."""
        return self._shape is not None

    def count_alike(self, data: bytes, start: int) -> AlikeEvents | None:
        """Count the events that begin at `start` and have the shape of the last one, as `add` counts each.

        Returns None, and counts nothing, if they have to be parsed. `use_alike` must follow.
        """
        events = self._shape.read(data, start) if self._shape else None
        if events is None or not self._count(events):
            return None
        self._shapes_left = MAX_UNUSED_SHAPES
        return events

    def use_alike(self, events: AlikeEvents, data: bytes) -> None:
        """Use events that were counted, and their data, as `add` uses each."""

    def add(self, event: Event) -> None:
        """Read one event.

        Raises the error of an error object in place of the first event, UpstreamBrokenError for other errors
        and for invalid data, and UpstreamOverranError when more tokens were received than requested.
        """
        attempt = self._attempt
        if not event.data.strip():
            return  # an event without data only keeps the connection open
        if not attempt.began:
            self._begin(event)
        if is_done(event):
            self.done = attempt.complete = True
            return
        try:
            data, chunk = parse_chunk(event)
            self._read(chunk)
        except UpstreamBrokenError as error:
            error.detail = text_inside_stream(event.data, self._redacted)
            if not attempt.complete:
                attempt.received_tokens += max_tokens_of_invalid(event.data)
            raise
        if self._counters.are_exceeded():
            attempt.complete = False
            raise UpstreamOverranError
        self._shape = self._shape_of(data, chunk)
        self._handle(data, chunk)

    def count_unread(self, events: Iterable[Event], rest_bytes: int) -> None:
        """Count the tokens that were received and not read. After a complete response they cost nothing."""
        if not self._attempt.complete:
            self._attempt.received_tokens += rest_bytes + sum(max_tokens_of_unread(event) for event in events)

    def check_complete(self) -> None:
        """Raise UpstreamBrokenError if the response ended too early, or if a choice ended with a failure."""
        if not self._attempt.complete or self._counters.failed_choices:
            raise UpstreamBrokenError

    def _begin(self, event: Event) -> None:
        error = error_in_place(event.data, self._attempt, self._redacted)
        if error is not None:
            raise error
        self._attempt.began = True

    def _read(self, chunk: dict[str, Any]) -> None:
        choices = optional_list(chunk.get("choices"))
        if len(choices) > self._attempt.choices:
            raise UpstreamBrokenError
        chunk_id = chunk.get("id")
        for position, choice in enumerate(choices):
            self._read_choice(chunk_id, position, choice)
        if chunk_id and not self._attempt.answer_id:
            self._attempt.answer_id = usable_id(chunk_id)
        if chunk.get("usage"):
            self._record_usage(chunk["usage"], choices)

    def _start_next_try(self) -> None:
        self._counters.reset()

    def _handle(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Use a valid event, its data and the chunk in it; subclasses collect its text or pass it on."""

    def _shape_of(self, data: bytes, chunk: dict[str, Any]) -> ChunkShape | None:
        if not (self._shapes_left and self._attempt.choices == 1 and self._counters.choices[0].shares_id):
            return None  # the next chunk of this shape could begin another try
        shape = shape_of(data, chunk)
        self._shapes_left -= shape is not None
        return shape

    def _count(self, events: AlikeEvents) -> bool:
        """Count what these events contain. Returns False, and counts nothing, if they may be too many."""
        attempt, deltas = self._attempt, len(events.texts)
        text = "".join(events.texts)
        text_bytes = len(text) if text.isascii() else len(text.encode())
        usage = self._usage_with(events.counts) if events.counts else None
        completion_tokens = usage.completion_tokens if usage else 0
        is_unknown = usage is None and events.counts
        if is_unknown or not self._counters.allow(deltas, text_bytes, completion_tokens):
            return False
        attempt.received_tokens += text_bytes
        attempt.deltas += deltas
        attempt.text_bytes += text_bytes
        if usage is not None:
            self._counters.reported_tokens[0] = completion_tokens
            attempt.record_usage(usage)
        return True

    def _usage_with(self, counts: dict[str, int]) -> Usage | None:
        """Return the usage of the last chunk with other counts; None if one of both is not valid."""
        usage = self._attempt.usage
        if usage is None or self._attempt.deltas_at_usage != self._attempt.deltas:
            return None
        total_tokens = counts["total_tokens"]
        if not (total_tokens or usage.prompt_tokens):
            return None  # no call has no tokens at all
        completion_tokens = max(counts["completion_tokens"], total_tokens - usage.prompt_tokens)
        return Usage(usage.prompt_tokens, completion_tokens, usage.cached_tokens)

    def _record_usage(self, value: object, choices: list[object]) -> None:
        usage = parse_usage(value)
        if usage is None:
            return
        self._attempt.record_usage(self._counters.total_usage(usage, choices[0]) if choices else usage)
        if not choices:
            self._attempt.complete = True

    def _read_choice(self, chunk_id: object, position: int, choice: object) -> None:
        delta = choice.get("delta") or {} if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            raise UpstreamBrokenError
        counters, attempt = self._counters, self._attempt
        index = counters.index_of(choice, position)
        state = counters.choices[index]
        if chunk_id == state.id:
            state.shares_id = True
        elif state.opens_again(chunk_id, choice, delta):
            self._start_next_try()
            counters.choices[index].id = chunk_id
        max_tokens = max_tokens_of(delta)
        attempt.received_tokens += max_tokens
        if max_tokens > 1 or has_content(delta):
            attempt.deltas += 1
            # The exact size of a small delta makes no difference, and would take time.
            is_small = max_tokens <= SMALL_DELTA_BYTES
            attempt.text_bytes += max_tokens if is_small else text_bytes_of(delta)
            attempt.complete = False  # content after an end: the response was not complete
            state = counters.choices[index]
            state.has_text = True
            if not state.has_text_without_role:
                state.has_text_without_role = not delta.get("role")
            if counters.ended_choices:
                counters.record_text_behind_end(index)
        if reason := choice.get("finish_reason"):
            counters.record_end(choice.get("index", position), reason)
            if counters.all_have_ended:
                attempt.complete = True


class TextStreamReader(StreamReader):
    """Reader that collects the text of the first choice. Only the text of the last try is kept."""

    def __init__(self, attempt: Attempt, redacted: str = "") -> None:
        super().__init__(attempt, redacted)
        self._texts: list[str] = []

    def text(self) -> str:
        """Return the complete text. Raises UpstreamBrokenError if it is cut or contains a failure text."""
        self.check_complete()
        text = "".join(self._texts)
        if any(failure in text for failure in FAILURE_TEXTS):
            raise UpstreamBrokenError
        return text

    def _start_next_try(self) -> None:
        super()._start_next_try()
        self._texts.clear()

    def _handle(self, data: bytes, chunk: dict[str, Any]) -> None:  # noqa: ARG002 - only the chunk is needed
        choices = chunk.get("choices")
        content = (choices[0].get("delta") or {}).get("content") if choices else None
        if isinstance(content, str):
            self._texts.append(content)

    def use_alike(self, events: AlikeEvents, data: bytes) -> None:  # noqa: ARG002 - only the texts are needed
        """Keep the texts of these events."""
        self._texts += events.texts


class RelayStreamReader(StreamReader):
    """Reader that passes on each event unchanged, and the usage only to a client that asked for it.

    The usage in chunks with choices is passed on only with `shows_chunk_usage`. If the upstream then reports
    none at the end, `unshown_usage` returns the last one. With `keeps_usage` it returns the one at the end,
    too, which is not passed on then: the call's cost, which belongs into it, is not known before the end.
    """

    def __init__(  # noqa: PLR0913 - each part of the usage may be shown or not
        self,
        attempt: Attempt,
        put: Callable[[bytes], None],
        *,
        shows_usage: bool,
        shows_chunk_usage: bool = False,
        keeps_usage: bool = False,
        redacted: str = "",
    ) -> None:
        super().__init__(attempt, redacted)
        self._put = put
        self._keeps_usage = keeps_usage
        self._shows_usage = shows_usage
        self._shows_chunk_usage = shows_chunk_usage
        self._hidden_usage: dict[str, Any] | None = None
        """A chunk with the last usage, if it was not passed on."""
        self._kept_usage: bytes | None = None
        """The data of the event with the usage at the end, if it was kept."""
        self._head: dict[str, Any] = {}
        """The fields that the chunks of the answer share."""
        self._shown_shape: ChunkShape | None = None
        """The shape of the last chunk as it was passed on, if that differs from what was received."""

    def unshown_usage(self) -> bytes | None:
        """Return the data of the event with the usage, if the client asked for it and has not received it.

        With `keeps_usage` the client always gets such an event. Its usage is null if none was reported.
        """
        if not self._shows_usage:
            return None
        if self._kept_usage is not None:
            return self._kept_usage
        if self._hidden_usage is None:
            return to_json(self._head | {"choices": [], "usage": None}) if self._keeps_usage else None
        usage = self._attempt.usage
        if self._attempt.choices > 1 and usage is not None:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            self._hidden_usage["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        return to_json(self._hidden_usage)

    def _start_next_try(self) -> None:
        """Raise UpstreamBrokenError: the client would join both tries."""
        raise UpstreamBrokenError

    def _handle(self, data: bytes, chunk: dict[str, Any]) -> None:
        self._shown_shape = None
        if self._keeps_usage and not self._head:
            self._head = {name: value for name, value in chunk.items() if name in SHARED_FIELDS}
        if "usage" in chunk and not self._shows(chunk):
            if not chunk.get("choices"):
                self._kept_usage = data
                return
            usage = chunk.pop("usage")
            if usage:
                self._hidden_usage = chunk | {"choices": [], "usage": usage}
            data = to_json(chunk)
            if self._shape is not None:
                self._shown_shape = shape_of(data, chunk)
                self._shape = self._shape if self._shown_shape else None
        self._put(event_of(data))

    def use_alike(self, events: AlikeEvents, data: bytes) -> None:
        """Pass on these events, without their usage if the client may not see it."""
        if self._shown_shape is None:
            self._put(data)
            return
        if self._hidden_usage is not None and events.counts:
            self._hidden_usage["usage"] |= events.counts
        self._put(self._shown_shape.write(events.texts))

    def _shows(self, chunk: dict[str, Any]) -> bool:
        """Whether the client may see the usage of this chunk. OpenAI's API sends null until the last one."""
        if self._keeps_usage and chunk["usage"] and not chunk.get("choices"):
            return False
        if self._shows_usage and not chunk.get("choices"):
            self._hidden_usage = None
            return True
        return self._shows_chunk_usage or (self._shows_usage and not chunk["usage"])
