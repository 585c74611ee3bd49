"""What the model says: each choice as the pieces that a stream sends, and as one message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from . import faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .directive import Directive
    from .question import Question

WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One completion token of one choice."""

    delta: dict[str, Any]
    index: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers that were asked for."""

    index: int
    pieces: list[Piece]
    finish_reason: str

    def message(self) -> dict[str, Any]:
        """Put the pieces together."""
        message = {"role": "assistant", "content": self._joined("content")}
        if reasoning := self._joined("reasoning_content"):
            message["reasoning_content"] = reasoning
        if not self.pieces:
            message["content"] = ""
        return message

    def _joined(self, key: str) -> str | None:
        return "".join(piece.delta.get(key) or "" for piece in self.pieces) or None


def choices(directive: Directive, question: Question) -> list[Choice]:
    """Return all choices, each cut where max_tokens ends it."""
    return [_choice(index, directive, question) for index in range(question.n)]


def _choice(index: int, directive: Directive, question: Question) -> Choice:
    pieces = [Piece(_delta(directive.fault, word), index) for word in _words(directive)]
    limit = None if directive.ignore_max_tokens else question.max_tokens
    cut = pieces[:limit]
    return Choice(index, cut, "stop" if len(cut) == len(pieces) else "length")


def in_turn(choices: Iterable[Choice]) -> list[Piece]:
    """Return the pieces in the order in which they are sent: the first of each choice, the second of each."""
    rounds = zip_longest(*(choice.pieces for choice in choices))
    return [piece for piece in chain.from_iterable(rounds) if piece is not None]


def _words(directive: Directive) -> list[str]:
    if directive.fault == "empty":
        return []
    if directive.fault == "error_text":
        return [f"Unhandled exception: {faults.EXHAUSTED}"]
    if directive.answer is not None:
        return WORD.findall(directive.answer)
    return [f"word{n} " for n in range(1, directive.events + 1)]


def _delta(fault: str | None, word: str) -> dict[str, Any]:
    if fault == "null_content":
        return {"content": None}
    if fault == "reasoning_only":
        return {"reasoning_content": word}
    return {"content": word}
