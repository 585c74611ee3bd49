"""Prices as text, with which the master hands them to its running workers."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.prices import Price
from ridges_proxy.config.tokenizer_file import TokenizerFile

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_text(prices: Mapping[str, Price]) -> str:
    """Return the prices as JSON. A tokenizer is its path and the digest of its content."""
    return json.dumps({model: _row(price) for model, price in prices.items()})


def from_text(text: str, loaded: Mapping[str, Price]) -> Mapping[str, Price]:
    """Return the prices of a text. Tokenizers of the prices that are loaded are used again.

    Raises ValueError if a tokenizer file cannot be read, or has another content than when the text was made.
    """
    found = [price.tokenizer for price in loaded.values()]
    tokenizers = {_key(each): each for each in found if isinstance(each, TokenizerFile)}
    return MappingProxyType(
        {model: _price(row, tokenizers) for model, row in json.loads(text).items()},
    )


def _row(price: Price) -> list[Any]:
    tokenizer = price.tokenizer
    return [
        price.input_nanousd,
        price.output_nanousd,
        price.cached_input_nanousd,
        price.upstream_model,
        _key(tokenizer) if isinstance(tokenizer, TokenizerFile) else None,
        price.context_length,
    ]


def _price(row: list[Any], tokenizers: dict[tuple[str, str], TokenizerFile]) -> Price:
    input_nanousd, output_nanousd, cached_nanousd, upstream_model, key, context_length = row
    tokenizer = _tokenizer(key, tokenizers)
    return Price(input_nanousd, output_nanousd, cached_nanousd, upstream_model, tokenizer, context_length)


def _key(tokenizer: TokenizerFile) -> tuple[str, str]:
    return tokenizer.path, tokenizer.content_digest


def _tokenizer(
    key: list[str] | None, tokenizers: dict[tuple[str, str], TokenizerFile]
) -> TokenizerFile | None:
    if key is None:
        return None
    path, content_digest = key
    if (path, content_digest) not in tokenizers:
        tokenizer = TokenizerFile(path)
        if tokenizer.content_digest != content_digest:
            raise ValueError(f"the tokenizer file {path!r} has changed since the reload: send SIGHUP again")
        tokenizers[path, content_digest] = tokenizer
    return tokenizers[path, content_digest]
