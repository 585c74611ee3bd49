"""Texts whose vectors are asked for, as they go upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ridges_proxy.billing.compact_json import compact_json


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What the caller wants, checked. The texts themselves are let go of.

    Nothing else would bound them in memory, where they may take five times their JSON: their price is that of
    the seconds.
    """

    body: bytes
    """As JSON."""
    count: int

    @classmethod
    def of(cls, texts: str | list[str]) -> Self:
        """The embedding of one text, or of several."""
        return cls(compact_json({"inputs": texts}), 1 if isinstance(texts, str) else len(texts))
