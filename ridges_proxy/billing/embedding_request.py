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

    bodies: tuple[bytes, ...]
    """The JSON bodies for the upstream, which get one response each."""
    counts: tuple[int, ...]
    """The number of texts in each body."""

    @classmethod
    def of(cls, texts: str | list[str], batch: int = 1) -> Self:
        """Serialize one text, or a list of texts, of which at most `batch` go into one body."""
        if isinstance(texts, str):
            return cls((_body(texts),), (1,))
        batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]
        return cls(tuple(map(_body, batches)), tuple(map(len, batches)))


def _body(texts: str | list[str]) -> bytes:
    return compact_json({"inputs": texts})
