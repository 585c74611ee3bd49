"""Chunks of one stream that differ only in their text and in the counts of their usage. Pure.

An engine writes a chunk for each token, and all of them have the same form. Once one of them was parsed,
those of the same shape need not be: only their texts and counts are read, many at a time.

It is safe because a JSON string in the place of another one changes nothing else of a document, and neither
does a number. `shape_of` tries with other values whether text and counts are where they were found. `read`
accepts nothing but the bytes of a valid string, or of a number, in these places.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

import orjson

FIELD = b"data: "
EVENT_END = b"\n\n"
TEXT_START = b'"content":"'
MAX_CHUNK_BYTES = 8_192
"""Longest chunk whose shape is searched: that of a token is far shorter. A long text with many escapes would
block the process for 0.3 s."""

TRIED_TEXT = "another text"
COUNTS = ["completion_tokens", "total_tokens"]
TRIED_COUNTS = 987_654_321, 987_654_320

_NUMBER = rb"0|[1-9][0-9]{0,8}"
_COUNT = re.compile(_NUMBER)
_NAMED_COUNT = re.compile(rb'"(%b)":(%b)(?=[,}])' % ("|".join(COUNTS).encode(), _NUMBER))
_NO_COUNTS: list[int] = []
_SEPARATOR = b"\0"
_TEXTS = re.compile(rb'[^"\\\x01-\x1f]*(?:\\["\\/bfnrtu][^"\\\x01-\x1f]*)*')
"""The inside of JSON strings, with separators between them. The digits behind `u` are left to the parser."""


class AlikeEvents(NamedTuple):
    """Events of one shape that follow each other."""

    texts: list[str]
    """The text of each, never empty."""
    counts: dict[str, int]
    """The counts of the last one by their names; none of the others has a higher one."""
    end: int
    """Where the data behind them begins."""


class ChunkShape(NamedTuple):
    """The bytes that chunks of one form share."""

    head: bytes
    """From the start of the event to the text."""
    gaps: list[bytes]
    """From the text to the end of the event: the bytes before, between and behind the counts."""
    names: list[str]
    """The names of the counts."""

    def read(self, data: bytes, start: int) -> AlikeEvents | None:
        """Return the events of this shape that begin at `start`; None if there are none, or no valid ones."""
        head, first_gap = self.head, self.gaps[0]
        if not data.startswith(head, start):
            return None
        fixed_bytes = len(head) + len(first_gap)
        texts: list[bytes] = []
        all_counts: list[list[int]] = []
        end = start
        for part in data[start + len(head) :].split(head):
            text, gap, rest = part.partition(first_gap)
            counts, counted_bytes = self._counts_in(rest) if self.names else (_NO_COUNTS, 0)
            if not (text and gap) or counts is None:
                break
            texts.append(text)
            all_counts.append(counts)
            end += fixed_bytes + len(text) + counted_bytes
            if counted_bytes != len(rest):
                break
        decoded = _decode(texts)
        if not decoded or (self.names and not _are_sorted(all_counts)):
            return None
        return AlikeEvents(decoded, dict(zip(self.names, all_counts[-1], strict=True)), end)

    def write(self, texts: list[str]) -> bytes:
        """Return events of this shape, which must have no counts, with these texts."""
        (tail,) = self.gaps
        # No string of JSON has a line break, so the indentation shows where each text ends. `","` would not:
        # a text may end with `",`.
        inside = orjson.dumps(texts, option=orjson.OPT_INDENT_2)[len(b'[\n  "') : -len(b'"\n]')]
        return self.head + inside.replace(b'",\n  "', tail + self.head) + tail

    def _counts_in(self, rest: bytes) -> tuple[list[int] | None, int]:
        """Return the counts at the start of what follows the first gap, and the bytes up to the last gap."""
        counts: list[int] = []
        position = 0
        for gap in self.gaps[1:]:
            count = _COUNT.match(rest, position)
            if count is None or not rest.startswith(gap, count.end()):
                return None, 0
            counts.append(int(count[0]))
            position = count.end() + len(gap)
        return counts, position


def shape_of(data: bytes, chunk: dict[str, Any]) -> ChunkShape | None:
    """Return the shape of a chunk, from its JSON and its value; None if others like it must be parsed.

    It has one choice with a new text and nothing else that is new, and a usage with two counts or none.
    """
    choice, usage = _only_choice(chunk), chunk.get("usage")
    if (
        len(data) > MAX_CHUNK_BYTES
        or choice is None
        or (usage and (not isinstance(usage, dict) or "input_tokens" in usage))
    ):
        return None  # `input_tokens` is of a form with other counts
    before, found, behind = data.partition(TEXT_START)
    text = _TEXTS.match(behind)
    if text is None or not found or b"\n" in data:
        return None
    counts = list(_NAMED_COUNT.finditer(behind, text.end()))
    names = [count[1].decode() for count in counts]
    if sorted(names) != (COUNTS if usage else []):
        return None
    starts = [text.end(), *(count.end(2) for count in counts)]
    ends = [*(count.start(2) for count in counts), len(behind)]
    gaps = [behind[start:end] for start, end in zip(starts, ends, strict=True)]
    if not _holds_values(before + found, gaps, names, chunk, choice):
        return None
    return ChunkShape(FIELD + before + found, [*gaps[:-1], gaps[-1] + EVENT_END], names)


def _only_choice(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """Return the only choice of a chunk, if nothing of it is new but a text."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or choices[0].get("finish_reason"):
        return None
    delta = choices[0].get("delta") or {}
    text = delta.get("content")
    if not isinstance(text, str) or not text:
        return None
    if any(value for key, value in delta.items() if key not in {"role", "content"}):
        return None
    choice: dict[str, Any] = choices[0]
    return choice


def _holds_values(
    before: bytes, gaps: list[bytes], names: list[str], chunk: dict[str, Any], choice: dict[str, Any]
) -> bool:
    """Try whether the chunk has another text and other counts, and nothing else, with these in the gaps."""
    counts = dict(zip(names, TRIED_COUNTS, strict=False))
    usage: dict[str, Any] = chunk.get("usage") or {}
    if choice["delta"]["content"] == TRIED_TEXT or any(usage.get(name) == counts[name] for name in counts):
        return False
    tried = before + TRIED_TEXT.encode() + gaps[0]
    for count, gap in zip(counts.values(), gaps[1:], strict=True):
        tried += b"%d%b" % (count, gap)
    expected = chunk | {"choices": [choice | {"delta": choice["delta"] | {"content": TRIED_TEXT}}]}
    if counts:
        expected["usage"] = usage | counts
    try:
        return bool(orjson.loads(tried) == expected)
    except orjson.JSONDecodeError:
        return False


def _decode(texts: list[bytes]) -> list[str] | None:
    """Return the strings with these insides; None if there are none, or if one is not valid."""
    joined = _SEPARATOR.join(texts)
    if not joined or not _TEXTS.fullmatch(joined):
        return None
    try:
        decoded: list[str] = orjson.loads(b'["' + joined.replace(_SEPARATOR, b'","') + b'"]')
    except orjson.JSONDecodeError:
        return None
    return decoded if len(decoded) == len(texts) else None


def _are_sorted(all_counts: list[list[int]]) -> bool:
    """Whether no count of an event is below that of the event before."""
    return all(
        earlier <= later
        for before, after in pairwise(all_counts)
        for earlier, later in zip(before, after, strict=True)
    )
