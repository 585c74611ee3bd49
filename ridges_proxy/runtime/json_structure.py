"""The structure of a JSON text, measured without parsing it: by searches and replacements, which run in C.

A text of 4 MiB takes at most 40 ms. Parsing it can take a second, and checking it ten seconds. Text and code
inside strings do not count. The levels are left to the parser, which ends at the 1,025th.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = b"[{,:"
"""Each list, object, item and value of a JSON text has one of these. Only the first value has none."""

MAX_MARKS = 65_536
"""Maximum marks of a request outside its strings, and of an event of the upstream. The time to check and to
count a request depends on them.

200 messages with tool calls have 4,000; 128 tools with 20 parameters each have 26,000; 10,000 short messages,
the most that a request may have, have 50,000.
"""

PIECE_BYTES = 65_536
"""Bytes that are searched at once: less than a millisecond, in which no other thread runs."""


def marks(text: bytes) -> int:
    """Return the marks outside the strings. Any number above MAX_MARKS means only that there are more."""
    found = all_marks(text)
    if found <= MAX_MARKS:
        return found
    found = 0
    for outside in outside_strings(text):
        found += all_marks(outside)
        if found > MAX_MARKS:
            break
    return found


def is_too_complex(text: bytes) -> bool:
    """Whether a text has more than MAX_MARKS marks outside its strings."""
    return len(text) > MAX_MARKS and marks(text) > MAX_MARKS


def all_marks(text: bytes) -> int:
    """Return the marks of a text, those inside its strings included."""
    return len(text) - len(text.translate(None, MARKS))


def outside_strings(text: bytes) -> Iterator[bytes]:
    """Yield a text without its strings, in pieces. It may be no JSON."""
    start, in_string = 0, False
    while start < len(text):
        piece = text[start : start + PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = text[start : start + PIECE_BYTES + 1]  # the escaped character, too
        parts = piece.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        start += len(piece)
