"""A chat answer as a stream of server-sent events, with the faults of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import faults, reply
from .answer import Piece
from .call import MS_PER_SECOND
from .chat import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chat import ChatCall

STREAM_ERROR = orjson.dumps({"error": f"Unhandled exception during response stream: {faults.EXHAUSTED}"})
STATUS_BODY = orjson.dumps({"status": 500, "detail": faults.EXHAUSTED})
DONE = b"[DONE]"


def write_event(fault: str | None, data: bytes) -> bytes:
    """Return one event, in the usual form or in another one that the standard allows."""
    if fault == "crlf":
        return b"data:" + data + b"\r\n\r\n"
    if fault == "comments":
        return b": ping\n\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"


class StreamedAnswer:
    """One stream: opening, content, ending, with the fault at its place."""

    def __init__(self, call: ChatCall) -> None:
        self.call = call
        self.fault = call.directive.fault
        self.id = call.entry.answer_id = new_id()
        self.events = 0
        pause_seconds = call.directive.pause_ms / MS_PER_SECOND
        self.body = reply.framing(call.connection, self.fault, pause_seconds)

    def send_all(self) -> None:
        """Send the whole stream."""
        self._open()
        if self._content():
            self._ending()
        else:
            self.body.end()

    def _open(self) -> None:
        self.call.start_billing()
        headers = {**self.call.good_headers("text/event-stream"), **self.body.headers()}
        self.call.connection.send(reply.head(200, headers))
        if self.call.is_error_object:
            return
        self.role()
        self.call.think(self._show_life)
        self.call.count(0)

    def _show_life(self) -> None:
        """Send what the directive names while hidden tokens are generated."""
        if self.call.directive.alive == "comments":
            self.body.send(b": ping\n\n")
        elif self.call.directive.alive == "chunks":
            self._delta(0, {})

    def role(self) -> None:
        """Send the first delta of each choice: its role."""
        for choice in self.call.choices:
            self._delta(choice.index, {"role": "assistant", "content": ""})

    def _content(self) -> bool:
        """Send the pieces, with the fault among them. Returns False if the fault ends the stream."""
        happens = FAULTS_IN_CONTENT.get(self.fault or "")
        if happens is None:
            self.send_pieces(self.call.pieces)
            return True
        place = self._place_of_fault()
        self.send_pieces(self.call.pieces[:place])
        goes_on = happens(self)
        if goes_on:
            self.send_pieces(self.call.pieces[place:])
        return goes_on

    def _place_of_fault(self) -> int:
        after = self.call.directive.after
        if after is None:
            return 0 if self.fault in {"status_body", "error_first"} else 1
        return after

    def send_pieces(self, pieces: list[Piece]) -> None:
        """Send pieces, one event each."""
        for piece in pieces:
            self.call.pause()
            if piece.opening is not None:
                self._delta(piece.index, piece.opening)
            self._delta(piece.index, piece.delta, piece=piece)
            self.events += 1
            self.call.count(self.events)

    def begin_again(self) -> None:
        """Start a second stream after the first one, with a new count."""
        self.id = new_id()
        self.events = 0
        self.call.count(0)
        self.role()

    def _ending(self) -> None:
        if self.fault != "no_finish":
            for choice in self.call.choices:
                self._delta(choice.index, {}, choice.finish_reason)
        if self.fault == "cut_after_finish":
            self.call.break_off()
        if self._wants_usage():
            self.send(self._chunk([], self.call.usage()))
        if self.fault == "cut_after_usage":
            self.call.break_off()
        self.body.end(b"" if self.fault == "no_done" else write_event(self.fault, DONE))

    def _wants_usage(self) -> bool:
        match self.call.directive.usage:
            case None | "chunks":
                return bool(self.call.chat_request.stream_options.get("include_usage"))
            case "none" | "null":
                return False
            case _:
                return True

    def _delta(
        self,
        index: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        *,
        piece: Piece | None = None,
    ) -> None:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        choice.update(self.call.logprobs([piece] if piece else []))
        choices = [choice]
        usage_kind = self.call.directive.usage
        if usage_kind == "each" or (usage_kind == "chunks" and self.call.chat_request.asks_for_chunk_usage):
            self.send(self._chunk(choices, self.call.usage()))
        elif self.call.directive.usage == "null":
            self.send(self._chunk(choices, None))
        else:
            self.send(self._chunk(choices))

    def _chunk(self, choices: list[dict[str, Any]], *usage: object) -> bytes:
        chunk = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.call.created,
            "model": self.call.model,
            "choices": choices,
        }
        if usage:
            chunk["usage"] = usage[0]
        return orjson.dumps(chunk)

    def send(self, data: bytes) -> None:
        """Send one event."""
        self.body.send(write_event(self.fault, data))


def _error_line(stream: StreamedAnswer) -> bool:
    stream.body.send(STREAM_ERROR + b"\n")
    return False


def _error_event(stream: StreamedAnswer) -> bool:
    stream.send(STREAM_ERROR)
    return False


def _error_first(stream: StreamedAnswer) -> bool:
    stream.send(orjson.dumps({"error": faults.TOO_LONG}))
    return False


def _status_body(stream: StreamedAnswer) -> bool:
    stream.body.send(STATUS_BODY)
    return False


def _malformed(stream: StreamedAnswer) -> bool:
    stream.send(b'{"id":"chatcmpl-torn","choices":[{"index":0,"del')
    return True


def _restart(stream: StreamedAnswer) -> bool:
    said = stream.call.pieces[: stream.events]
    stream.begin_again()
    stream.send_pieces(said)
    return True


def _endless(stream: StreamedAnswer) -> bool:
    while True:
        stream.send_pieces([Piece({"content": "and so on "})])


def _end_here(_stream: StreamedAnswer) -> bool:
    return False


def _break_off(stream: StreamedAnswer) -> bool:
    stream.call.break_off()


FAULTS_IN_CONTENT: dict[str, Callable[[StreamedAnswer], bool]] = {
    "error_line": _error_line,
    "error_event": _error_event,
    "error_first": _error_first,
    "status_body": _status_body,
    "malformed": _malformed,
    "restart": _restart,
    "endless": _endless,
    "no_done_no_finish": _end_here,
    "cut": _break_off,
    "reset_mid": _break_off,
    "stall": _break_off,
}
