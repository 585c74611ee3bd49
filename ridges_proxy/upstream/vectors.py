"""The JSON of embeddings, parsed vector by vector. Pure.

To parse 40 MB at once (2,048 vectors of 1,024 numbers) stops all other calls for 0.5 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VECTOR_BYTES = 256 << 10
"""Limit of one vector: 8,192 numbers of 32 characters, twice as many as any known model returns."""


class NoVectorsError(ValueError):
    """The text is no list of lists of numbers."""


def parsed_vectors(content: bytes) -> Iterator[list[Any]]:
    """Yield the items of a list of lists. Raises NoVectorsError where the text is anything else.

    A list of numbers ends with the first bracket. An item with a text or a list in it fails to be parsed.
    """
    start = content.find(b"[") + 1
    if content[:start].strip() != b"[":
        raise NoVectorsError
    comma = b""
    while (end := content.find(b"]", start, start + MAX_VECTOR_BYTES)) >= 0:
        item = content[start:end].strip()
        if not item:
            break
        item = item.removeprefix(comma) if item.startswith(comma) else b""
        yield _parsed(item + b"]")
        start, comma = end + 1, b","
    if content[start:].strip() != b"]" or not comma:
        raise NoVectorsError


def _parsed(item: bytes) -> list[Any]:
    try:
        value = orjson.loads(item)
    except orjson.JSONDecodeError:
        raise NoVectorsError from None
    if not isinstance(value, list):
        raise NoVectorsError
    return value
