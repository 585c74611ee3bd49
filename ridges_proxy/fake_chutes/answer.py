"""The model's answer: each choice as pieces for a stream, and as one message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, cycle, zip_longest
from typing import TYPE_CHECKING, Any

from . import faults, tool_calls
from .chat_request import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .chat_request import ChatRequest
    from .directive import Directive

WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One completion token of one choice. `opening` is a delta that is sent before it and counts no token."""

    delta: dict[str, Any]
    index: int = 0
    opening: dict[str, Any] | None = None

    def deltas(self) -> list[dict[str, Any]]:
        """Return the deltas that are sent for this piece."""
        return [self.delta] if self.opening is None else [self.opening, self.delta]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the choices that the request asks for."""

    index: int
    pieces: list[Piece]
    finish_reason: str

    def message(self) -> dict[str, Any]:
        """Join the pieces into one message."""
        message: dict[str, Any] = {"role": "assistant", "content": self._joined("content")}
        if reasoning := self._joined("reasoning_content"):
            message["reasoning_content"] = reasoning
        if not self.pieces:
            message["content"] = ""
        if calls := tool_calls.joined(delta for piece in self.pieces for delta in piece.deltas()):
            message["tool_calls"] = calls
        return message

    def _joined(self, key: str) -> str | None:
        return "".join(piece.delta.get(key) or "" for piece in self.pieces) or None


def choices(directive: Directive, chat_request: ChatRequest) -> list[Choice]:
    """Return all choices, each limited to max_tokens."""
    return [_choice(index, directive, chat_request) for index in range(chat_request.n)]


def _choice(index: int, directive: Directive, chat_request: ChatRequest) -> Choice:
    pieces = _reasoning_pieces(index, directive) + _pieces(index, directive, chat_request)
    limit = None if directive.ignore_max_tokens else chat_request.max_tokens
    cut = pieces[:limit]
    finish_reason = "tool_calls" if directive.tool_calls else "stop"
    return Choice(index, cut, finish_reason if len(cut) == len(pieces) else "length")


def _pieces(index: int, directive: Directive, chat_request: ChatRequest) -> list[Piece]:
    if directive.tool_calls:
        return _tool_calls(index, directive, chat_request)
    return [Piece(_delta(directive.fault, word), index) for word in _words(directive, chat_request)]


def _reasoning_pieces(index: int, directive: Directive) -> list[Piece]:
    return [Piece({"reasoning_content": f"thought{n} "}, index) for n in range(1, directive.reasoning + 1)]


def _tool_calls(index: int, directive: Directive, chat_request: ChatRequest) -> list[Piece]:
    pieces = []
    for number, (name, deltas) in enumerate(_named_calls(directive, chat_request)):
        first, *others = deltas
        pieces.append(Piece(first, index, tool_calls.first_delta(number, name)))
        pieces += [Piece(other, index) for other in others]
    return pieces


def _named_calls(
    directive: Directive, chat_request: ChatRequest
) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Yield the name and the deltas of each call. For a number: the request's tools in order, repeated."""
    names = chat_request.tool_names()
    if not names:
        raise RefusedError(400, "fake Chutes: the directive has tool_calls, and the request no tools")
    if isinstance(directive.tool_calls, list):
        for number, call in enumerate(directive.tool_calls):
            yield call["name"], [tool_calls.given_delta(number, call["arguments"])]
        return
    for number, name in zip(range(directive.tool_calls), cycle(names), strict=False):
        yield name, tool_calls.argument_deltas(number, directive.events)


def interleaved(choices: Iterable[Choice]) -> list[Piece]:
    """Return the pieces in the order of sending: the first of each choice, then the second of each."""
    rounds = zip_longest(*(choice.pieces for choice in choices))
    return [piece for piece in chain.from_iterable(rounds) if piece is not None]


def _words(directive: Directive, chat_request: ChatRequest) -> list[str]:
    if directive.fault == "empty":
        return []
    if directive.fault == "error_text":
        return [f"Unhandled exception: {faults.EXHAUSTED}"]
    if directive.answer is not None:
        return WORD.findall(directive.answer)
    words = [f"word{n} " for n in range(1, directive.events + 1)]
    return _as_json(words) if words and chat_request.wants_json else words


def _as_json(words: list[str]) -> list[str]:
    """Turn the words into one JSON object, in as many pieces."""
    words[0] = f'{{"text": "{words[0]}'
    words[-1] += '"}'
    return words


def _delta(fault: str | None, word: str) -> dict[str, Any]:
    if fault == "null_content":
        return {"content": None}
    if fault == "reasoning_only":
        return {"reasoning_content": word}
    return {"content": word}
