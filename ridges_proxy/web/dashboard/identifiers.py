"""Ids on the pages: long ones are shortened in the middle, and each can be copied."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from hashlib import blake2s

MAX_WHOLE_CHARACTERS = 24
"""Longer ids are shown in two parts: the browser shortens the first, if there is not enough space."""

END_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class SplitId:
    """An id in two parts, of which the first may be shortened at its end."""

    start: str
    end: str

    @classmethod
    def of(cls, text: str) -> SplitId:
        """The parts of an id. The second is empty if the id is short."""
        if len(text) <= MAX_WHOLE_CHARACTERS:
            return cls(text, "")
        split = len(text) - END_CHARACTERS
        while split and unicodedata.category(text[split]).startswith("M"):
            split -= 1  # a combining mark stays with the letter before it
        return cls(text[:split], text[split:])


def element_id(kind: str, text: str) -> str:
    """An id of an element, from any text: a refresh finds the element by it, and keeps the focus there."""
    return f"{kind}-{blake2s(text.encode(), digest_size=8).hexdigest()}"
