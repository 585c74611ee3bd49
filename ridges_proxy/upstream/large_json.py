"""JSON of a large answer, parsed in small steps, so that other threads can run in between. Pure.

A parser in C stops all other threads until it has read the whole text, and so does freeing all its values at
once: for seconds, with 32 MiB of empty lists. Here it reads a small piece at a time. Values that are larger
than a piece are opened by functions in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from json import JSONDecoder
from typing import Any

from ridges_proxy.upstream.strict_json import strict_json

ObjectHook = Callable[[dict[str, Any]], object]
"""Returns an object of the text, or what stands for it."""

PIECE_CHARACTERS = 16_384
"""Text that is parsed at once: at most a millisecond."""

FIRST_CHARACTERS = 2_048
"""Text that is copied for a value at first. A token with 20 alternatives has less.

To copy a whole piece for each small value takes four times as long, where a character has four bytes.
"""

MAX_VALUES = 65_536
"""Limit of the values inside the lists and objects that are kept, as in a request.

A choice has about 20 and a tool call 6. Log probabilities do not count: they are not kept.
"""

MAX_ITEMS = 524_288
"""Limit of the items of all lists and objects that are larger than a piece.

An answer of MAX_JSON_BYTES has at most 350,000 tokens with a log probability each.
"""

OPENED_VALUES = 16
"""The values that a list or an object larger than a piece counts as: it was parsed in vain before."""

MAX_LEVELS = 128
"""Limit of lists and objects inside each other that are all larger than a piece. A usual answer has 5."""

_STRING_PIECE = re.compile(r'(?: [^"\\]+ | \\ (?: u.{4} | [^u] ) )*', re.VERBOSE | re.DOTALL)
"""A string or its beginning, which does not end inside an escape."""

_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_SPACES = re.compile(r"[ \t\r\n]{1,65536}")


def without_log_probability(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return an object of a message or an answer; None for one of a token."""
    return None if "logprob" in value else value


def parse_large_json(data: bytes, object_hook: ObjectHook = without_log_probability) -> tuple[bytes, Any]:
    """Return the data as strict JSON, and its value with null for each token's log probability.

    Another `object_hook` may return other values for these objects, which should be as small. For use in a
    thread: then the hub runs in between.

    Raises ValueError if the data is no JSON, or has too many values or levels for an answer. Unlike
    `parse_json`, it accepts lone surrogates.
    """
    with suppress(ValueError):
        return _parsed(data, object_hook)
    # Not inside the error of the reader, which would keep what was read until the hub frees it.
    raise ValueError("no JSON, or not of an answer")


def _parsed(data: bytes, object_hook: ObjectHook) -> tuple[bytes, Any]:
    text = data.decode()
    reader = _Reader(text, object_hook)
    value, end = reader.value(reader.skip_spaces(0), 0)
    if reader.skip_spaces(end) != len(text):
        raise ValueError
    return reader.strict() or data, value


class _Reader:
    """One text, what is left of its limits, and its strict form."""

    def __init__(self, text: str, object_hook: ObjectHook) -> None:
        self._text = text
        self._object_hook = object_hook
        self._constants: list[str] = []
        self._decode = JSONDecoder(object_hook=object_hook, parse_constant=self._constants.append).raw_decode
        self._strict = BytesIO()
        self._strict_end = 0
        """Where the text ends that was written as strict JSON: behind the last piece with constants."""
        self._values_left = MAX_VALUES
        self._items_left = MAX_ITEMS

    def value(self, start: int, level: int) -> tuple[Any, int]:
        """Return the value at a position, and the position of its end."""
        self._items_left -= 1
        if self._items_left < 0:
            raise ValueError
        decoded = self._decoded(start, FIRST_CHARACTERS) or self._decoded(start, PIECE_CHARACTERS)
        if decoded is None:
            return self._large_value(start, level)
        value, end = decoded
        if isinstance(value, dict | list):
            self._keep(_values_in(value))
        if self._constants:
            self._constants.clear()
            self._write_strict(start, self._text[start:end])
        return value, end

    def skip_spaces(self, position: int) -> int:
        """Return the position of the next character that is no space, or the end."""
        while spaces := _SPACES.match(self._text, position):
            position = spaces.end()
        return position

    def strict(self) -> bytes | None:
        """Return the text as strict JSON; None if it was strict."""
        if not self._strict_end:
            return None
        self._strict.write(self._text[self._strict_end :].encode())
        return self._strict.getvalue()

    def _decoded(self, start: int, max_characters: int) -> tuple[Any, int] | None:
        """Return the value at a position, and the position of its end; None if it is cut, or invalid."""
        piece = self._text[start : start + max_characters]
        try:
            value, size = self._decode(piece)
        except (ValueError, RecursionError):
            self._constants.clear()
            return None
        is_cut = size == max_characters and not isinstance(value, dict | list | str)  # it may be a number
        return None if is_cut else (value, start + size)

    def _write_strict(self, start: int, piece: str) -> None:
        data = piece.encode()
        self._strict.write(self._text[self._strict_end : start].encode())
        self._strict.write(strict_json(data) or data)
        self._strict_end = start + len(piece)

    def _keep(self, values: int) -> None:
        self._values_left -= values
        if self._values_left < 0:
            raise ValueError

    def _large_value(self, start: int, level: int) -> tuple[Any, int]:
        mark = self._mark(start)
        if mark == '"':
            return self._large_string(start)
        self._keep(OPENED_VALUES)
        if level == MAX_LEVELS or mark not in {"[", "{"}:
            raise ValueError
        return self._list(start, level) if mark == "[" else self._object(start, level)

    def _list(self, start: int, level: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        position, mark = start, ","
        while mark == ",":
            item, position = self.value(self.skip_spaces(position + 1), level + 1)
            items.append(item)
            position = self.skip_spaces(position)
            mark = self._mark(position)
        if mark != "]":
            raise ValueError
        return items, position + 1

    def _object(self, start: int, level: int) -> tuple[object, int]:
        members: dict[str, Any] = {}
        position, mark = start, ","
        while mark == ",":
            name, position = self._string(self.skip_spaces(position + 1))
            position = self.skip_spaces(position)
            if self._mark(position) != ":":
                raise ValueError
            members[name], position = self.value(self.skip_spaces(position + 1), level + 1)
            position = self.skip_spaces(position)
            mark = self._mark(position)
        if mark != "}":
            raise ValueError
        return self._object_hook(members), position + 1

    def _string(self, start: int) -> tuple[str, int]:
        if self._mark(start) != '"':
            raise ValueError
        return self._decoded(start, FIRST_CHARACTERS) or self._large_string(start)

    def _large_string(self, start: int) -> tuple[str, int]:
        pieces: list[str] = []
        position = start + 1
        while (mark := self._mark(position)) != '"':
            piece = _STRING_PIECE.match(self._text, position, position + PIECE_CHARACTERS - len('""'))
            if not mark or piece is None or piece.end() == position:  # it has no end, or an invalid escape
                raise ValueError
            pieces.append(self._decode(f'"{piece[0]}"')[0])
            position = piece.end()
        return _joined(pieces), position + 1

    def _mark(self, position: int) -> str:
        return self._text[position : position + 1]


def _joined(pieces: list[str]) -> str:
    """Return the pieces of a string as one. A pair of surrogates that was cut becomes the character it is."""
    text = "".join(pieces)
    ends = (piece[-1] + next_piece[0] for piece, next_piece in pairwise(pieces))
    if any(_SURROGATES.fullmatch(end) for end in ends):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


def _values_in(value: dict[str, Any] | list[Any]) -> int:
    """Return the number of values in a list or an object, at all levels."""
    values, waiting = 1, [value]
    while waiting:
        each = waiting.pop()
        inner = each.values() if isinstance(each, dict) else each
        values += len(inner)
        waiting += [item for item in inner if isinstance(item, dict | list)]
    return values
