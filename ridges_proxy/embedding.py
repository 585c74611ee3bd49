"""Texts whose vectors are asked for, as they go upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ridges_proxy.kept_json import kept_json

BYTES_PER_TOKEN = 4
"""About right for English and code: the chute reports no usage."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What the caller wants, checked. The texts themselves are let go of.

    Nothing else would bound them in memory, where they may take five times their JSON: their price is that of
    the seconds.
    """

    body: bytes
    """As JSON."""
    count: int
    tokens: int
    """An estimate, for who asks: none is charged by the token."""

    @classmethod
    def of(cls, texts: str | list[str]) -> Self:
        """The embedding of one text, or of several."""
        each = [texts] if isinstance(texts, str) else texts
        tokens = sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in each)
        return cls(kept_json({"inputs": texts}), len(each), tokens)
