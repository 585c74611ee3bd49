"""The events of a streamed response, made from the chunks of a chat. Pure.

A message and its reasoning end when something else follows. Calls of functions end with the stream, because
their arguments may arrive in turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.upstream.chunk_tokens import arguments_in, to_json
from ridges_proxy.upstream.tool_call_pieces import ToolCallPieces
from ridges_proxy.web.responses_api.output_items import (
    ID_PREFIXES,
    OUTPUT_TEXT,
    REASONING_SUMMARY,
    REASONING_TEXT,
    REFUSAL,
    OpenCall,
    OpenText,
    PartKind,
)
from ridges_proxy.web.responses_api.response_object import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    INCOMPLETE,
    INCOMPLETE_REASONS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ridges_proxy.web.responses_api.response_object import ResponseForm


class ResponseStream:
    """The state of one response. Each method returns the bytes of the events that follow."""

    def __init__(self, form: ResponseForm, *, whole: bool = False) -> None:
        """A `whole` response is not streamed: it has no events, and keeps its log probabilities to the end.

        In a stream only the deltas have them: each of the last events would repeat all of them.
        """
        self.response: dict[str, Any] = {}
        """The response when it has ended."""
        self._form, self._whole = form, whole
        self._events: list[bytes] = []
        self._count = 0
        """Number of events so far, which is the number of the next one."""
        self._output: list[dict[str, Any]] = []
        self._text: OpenText | None = None
        self._calls: dict[int, OpenCall] = {}
        self._pieces = ToolCallPieces()
        self._call_ids: set[str] = set()
        self._unnamed: list[OpenCall] = []
        """Calls whose names may not be complete, so that they are not part of the output yet."""
        self._finish_reason: object = None
        self._usage: dict[str, Any] | None = None

    def add(self, chunk: Mapping[str, Any]) -> bytes:
        """Add a chunk of the chat, or a whole completion."""
        self._begin()
        if usage := self._form.usage(chunk.get("usage")):
            self._usage = usage
        choices = chunk.get("choices")
        for choice in choices[:1] if isinstance(choices, list) else []:
            self._add_choice(choice)
        return self._taken()

    def end(self) -> bytes:
        """End a complete answer."""
        self._begin()
        reason = INCOMPLETE_REASONS.get(str(self._finish_reason))
        status = INCOMPLETE if reason else COMPLETED
        self._end_items(status)
        self.response = self._form.response(status, self._output, reason=reason, usage=self._usage)
        self._emit(f"response.{status}", response=self.response)
        return self._taken()

    def fail(self, error: Mapping[str, Any]) -> bytes:
        """End a failed answer. `error` is the error of OpenAI's envelope: message, type, param and code.

        OpenAI's clients raise the error of the event `error`. Codex reads that of the failed response.
        """
        self._begin()
        self._end_items(INCOMPLETE)
        self._emit("error", code=error["code"], message=error["message"], param=error["param"], error=error)
        shown = {"code": error["code"], "message": error["message"]}
        self.response = self._form.response(FAILED, self._output, usage=self._usage, error=shown)
        self._emit("response.failed", response=self.response)
        return self._taken()

    def _begin(self) -> None:
        if not self._count:
            response = self._form.response(IN_PROGRESS, [])
            self._emit("response.created", response=response)
            self._emit("response.in_progress", response=response)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        delta = _object_in(choice, "message" if self._whole else "delta")
        if reasoning := _text_in(delta, "reasoning_content") or _text_in(delta, "reasoning"):
            self._add_text(REASONING_SUMMARY if self._form.shows_summary else REASONING_TEXT, reasoning, [])
        if content := _text_in(delta, "content"):
            self._add_text(OUTPUT_TEXT, content, _logprobs_in(choice))
        if refusal := _text_in(delta, "refusal"):
            self._add_text(REFUSAL, refusal, [])
        for position, piece in _calls_in(delta):
            # A whole answer has one piece for each call, in their order.
            self._add_call(position if self._whole else self._pieces.number_of(piece), piece)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _add_text(self, kind: PartKind, text: str, logprobs: list[object]) -> None:
        if self._text is not None and self._text.kind.item != kind.item:
            self._end_text(COMPLETED)
        if self._text is None:
            item_id, index = self._next_place(kind.item)
            self._text = OpenText.begin(kind, item_id, index, self._emit)
            self._output.append(self._text.item)
        elif self._text.kind is not kind:
            self._text.end_part(self._emit)
            self._text.begin_part(kind, self._emit)
        self._text.add(text, logprobs, self._emit, keep=self._whole)

    def _add_call(self, index: int, piece: Mapping[str, Any]) -> None:
        function = _object_in(piece, "function")
        if index not in self._calls:
            self._end_text(COMPLETED)
            self._begin_calls()
            self._calls[index] = OpenCall(self._call_id(piece, index))
            self._unnamed.append(self._calls[index])
        call = self._calls[index]
        call.add_name(_text_in(function, "name"))
        if arguments := arguments_in(function):
            self._begin_calls()
            call.add(arguments, self._emit)

    def _begin_calls(self) -> None:
        """Begin the items of the calls whose names are complete, because something follows them."""
        for call in self._unnamed:
            item_id, index = self._next_place("function_call")
            joined = "".join(call.names)
            name = self._form.names.get(joined)
            shown = {"id": item_id, "name": name.name if name else joined}
            call.begin(shown | ({"namespace": name.namespace} if name else {}), index, self._emit)
            self._output.append(call.item)
        self._unnamed.clear()

    def _call_id(self, piece: Mapping[str, Any], index: int) -> str:
        """The id that the upstream gave the call. If it has none, or gave it twice, one of the proxy."""
        given = _text_in(piece, "id")
        call_id = given if given and given not in self._call_ids else f"call_{self._form.id}{index:x}"
        self._call_ids.add(call_id)
        return call_id

    def _next_place(self, item_type: str) -> tuple[str, int]:
        index = len(self._output)
        return self._form.item_id(ID_PREFIXES[item_type], index), index

    def _end_text(self, status: str) -> None:
        if self._text is not None:
            self._text.end(status, self._emit)
            self._text = None

    def _end_items(self, status: str) -> None:
        self._end_text(status)
        self._begin_calls()
        for call in self._calls.values():
            call.end(status, self._emit)

    def _emit(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON
        if not self._whole:
            event = {"type": kind, "sequence_number": self._count, **fields}
            self._events.append(b"event: " + kind.encode() + b"\ndata: " + to_json(event) + b"\n\n")
        self._count += 1

    def _taken(self) -> bytes:
        events, self._events = self._events, []
        return b"".join(events)


def _text_in(fields: Mapping[str, Any], name: str) -> str:
    """A text of a delta. Values of other types have no meaning here."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _calls_in(delta: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The pieces of tool calls, each with its position."""
    pieces = delta.get("tool_calls")
    for position, piece in enumerate(pieces if isinstance(pieces, list) else []):
        if isinstance(piece, dict):
            yield position, piece


def _object_in(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _logprobs_in(choice: Mapping[str, Any]) -> list[object]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []
