"""A model's tokenizer, from its `tokenizer.json`."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.config.file_content import read_bytes
from ridges_proxy.runtime.cooperative import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

NOT_INSTALLED = "needs the package tokenizers for its tokenizer files: pip install 'ridges-proxy[tokenizers]'"

MAX_BYTES_ON_THE_HUB = 32_768
"""More text is counted in a thread: 32 kB of code took 20 ms, of random letters 80 ms, in which no other
greenlet runs."""

MAX_REMEMBERED = 20_000
"""Texts whose count is remembered, about 120 bytes each. Agents send the same messages again and again."""

DIGEST_BYTES = 16

MAX_FILE_BYTES = 1 << 30
"""The largest tokenizers have some 30 MB."""


class TokenizerFile:
    """The tokenizer of a file. Equal to another one of the same path and content."""

    def __init__(self, path: str) -> None:
        """Load the file. Raises ValueError, whose text follows the setting's name, if that fails."""
        self.path = path
        try:
            content = read_bytes(Path(path), MAX_FILE_BYTES)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"names the tokenizer file {path!r}, which cannot be read: {reason}") from None
        self.content_digest = blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
        self._tokenizer = _load(path, content)
        self._threads = Threads()
        self._remembered: OrderedDict[bytes, int] = OrderedDict()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerFile) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str]:
        return self.path, self.content_digest

    def __repr__(self) -> str:
        return f"TokenizerFile({self.path!r})"

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text. Long texts are counted in a thread."""
        encoded = [text.encode() for text in texts]
        digests = [blake2b(text, digest_size=DIGEST_BYTES).digest() for text in encoded]
        # Another thread may count at the same time, and forget a count between two looks at it.
        found_counts = ((digest, self._remembered.get(digest)) for digest in digests)
        counts = {digest: tokens for digest, tokens in found_counts if tokens is not None}
        new = {
            digest: (text, len(text_bytes))
            for digest, text, text_bytes in zip(digests, texts, encoded, strict=True)
            if digest not in counts
        }
        if new:
            given = [text for text, _ in new.values()]
            on_the_hub = sum(size for _, size in new.values()) <= MAX_BYTES_ON_THE_HUB
            found = self._encode(given) if on_the_hub else self._threads.do(lambda: self._encode(given))
            counts |= zip(new, found, strict=True)
        self._remember(counts)
        return [counts[digest] for digest in digests]

    def _encode(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text. A batch, unlike a single text, releases the GIL."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def _remember(self, counts: dict[bytes, int]) -> None:
        """Remember the counts, and forget those that were used least recently."""
        for digest, tokens in counts.items():
            self._remembered.pop(digest, None)
            self._remembered[digest] = tokens
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _load(path: str, content: bytes) -> Tokenizer:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an optional package
    except ImportError:
        raise ValueError(NOT_INSTALLED) from None
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # noqa: BLE001 - the package raises nothing more specific
        raise ValueError(f"names the tokenizer file {path!r}, which is no tokenizer.json: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = (
        True  # some engines read them in a text as text: more tokens, never fewer
    )
    return tokenizer
