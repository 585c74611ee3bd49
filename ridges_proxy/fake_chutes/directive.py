"""Directives: instructions for the answer to one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from . import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OPENING = "[[fake-chutes "
CLOSING = "}]]"
USAGE_KINDS = frozenset({"end", "none", "null", "each", "chunks", "below", "above"})
SIGNS_OF_LIFE = frozenset({"chunks", "comments"})
MAX_EVENTS = 1_000_000
MAX_PAUSE_MS = 600_000


class DirectiveError(ValueError):
    """An invalid directive; the text names the wrong part."""


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_EVENTS


def _calls(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(call, dict)
        and call.keys() == {"name", "arguments"}
        and isinstance(call["name"], str)
        and isinstance(call["arguments"], dict)
        for call in value
    )


def _milliseconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_PAUSE_MS


def _text(value: object) -> bool:
    return isinstance(value, str)


def _switch(value: object) -> bool:
    return isinstance(value, bool)


CHECKS: dict[str, Callable[[object], bool]] = {
    "events": _count,
    "answer": _text,
    "pause_ms": _milliseconds,
    "first_ms": _milliseconds,
    "ignore_max_tokens": _switch,
    "usage": lambda value: isinstance(value, dict) or value in USAGE_KINDS,
    "reasoning": _count,
    "hidden": _count,
    "hidden_per_second": _count,
    "alive": lambda value: value in SIGNS_OF_LIFE,
    "refuses_chunk_usage": _switch,
    "tool_calls": lambda value: _count(value) or _calls(value),
    "then": lambda value: isinstance(value, dict),
    "cached_tokens": _count,
    "greedy": _switch,
    "gate": _text,
    "gate_at": lambda value: value == "headers" or _count(value),
    "step": _text,
    "fault": lambda value: isinstance(value, str) and value in faults.ALL,
    "after": _count,
    "billed": _switch,
    "label": _text,
}


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive. The package's docstring describes the keys."""

    events: int = 5
    answer: str | None = None
    pause_ms: float = 0
    first_ms: float = 0
    ignore_max_tokens: bool = False
    usage: str | dict[str, Any] | None = None
    reasoning: int = 0
    hidden: int = 0
    hidden_per_second: int = 1000
    alive: str | None = None
    refuses_chunk_usage: bool = False
    tool_calls: int | list[dict[str, Any]] = 0
    then: dict[str, Any] | None = None
    cached_tokens: int | None = None
    greedy: bool = False
    gate: str | None = None
    gate_at: int | str = "headers"
    step: str | None = None
    fault: str | None = None
    after: int | None = None
    billed: bool = False
    label: str | None = None

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Parse a directive from JSON. Raises DirectiveError for an unknown key or value."""
        try:
            given = orjson.loads(text or b"{}")
        except orjson.JSONDecodeError as error:
            raise DirectiveError(f"fake Chutes: the directive is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise DirectiveError("fake Chutes: the directive is not an object")
        return cls._of(given)

    @classmethod
    def _of(cls, given: dict[str, Any]) -> Self:
        for key, value in given.items():
            _check(key, value)
        return cls(**given)

    def of_turn(self, answers: int) -> Self:
        """Return the directive that counts when the model has given so many answers to this one."""
        directive = self
        while answers and directive.then is not None:
            directive, answers = self._of(directive.then), answers - 1
        return directive


def _check(key: str, value: object) -> None:
    if key not in CHECKS:
        raise DirectiveError(f"fake Chutes: unknown directive key {key!r}")
    try:
        fits = CHECKS[key](value)
    except TypeError:  # an unhashable value looked up in a set
        fits = False
    if not fits:
        raise DirectiveError(f"fake Chutes: unknown value for directive key {key!r}: {value!r}")


def find_directive(texts: Iterable[tuple[str, int]]) -> Directive | None:
    """Return the last directive in the texts, or None. Each text has the number of answers behind it."""
    for text, answers in reversed(list(texts)):
        start = text.rfind(OPENING)
        if start >= 0:
            end = text.find(CLOSING, start)
            if end < 0:
                raise DirectiveError(f"fake Chutes: the directive is not closed with {CLOSING}")
            return Directive.parse(text[start + len(OPENING) : end + 1]).of_turn(answers)
    return None
