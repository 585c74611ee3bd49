"""A checked embedding request, as it goes upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ridges_proxy.billing.compact_json import compact_json


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A checked embedding request. It keeps the texts only as JSON.

    As Python objects, they can take five times as much memory as their JSON. The price does not limit their
    size, because embeddings are priced by time.
    """

    body: bytes
    """The JSON body for the upstream."""
    count: int
    """The number of texts."""

    @classmethod
    def of(cls, texts: str | list[str]) -> Self:
        """Serialize one text, or a list of texts."""
        return cls(compact_json({"inputs": texts}), 1 if isinstance(texts, str) else len(texts))
