"""Upper bounds for the tokens of a text, for every byte-level tokenizer. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS_PER_MESSAGE = 16
"""Allowance for the markers that a chat template writes around one message: at most 7 tokens in the templates
of the models that Chutes serves; doubled, and rounded up."""

TOKENS_PER_CALL = 256
"""Allowance for the text that a chat template writes before the first message: the longest known, a default
system message of about 850 characters, has about 200 tokens; most templates write none."""

_MARK = r"[^\w\x00-\x7f\u2100-\u2bff\U0001f000-\U0001faff]"
_MARKS = re.compile(f"(?<!{_MARK}){_MARK}{{32,}}")
"""32 or more characters in a row that may all be combining marks: no letters, digits or symbols (such as box
drawing). Normalization sorts combining marks in quadratic time: hours for one body full of them."""

BYTES_PER_MARK_BYTE = 4
"""Maximum growth of combining marks by NFC: three bytes for one, and one more for the letter before them."""


PIECE_CHARACTERS = 16_384
"""Length from which a text is normalized in pieces. A piece takes up to 10 ms, while no other thread runs."""

MAX_PIECE_CHARACTERS = 3 * PIECE_CHARACTERS
"""A longer piece has PIECE_CHARACTERS characters in a row without a letter. It is not normalized."""

_LETTER = re.compile(r"[\x00-\x7f]|[^\W\u1100-\u11ff\U00016d67-\U00016d6a]")
"""A character that NFC never joins to the one before it: ASCII, or a letter or digit, except Jamo and the
vowel signs of Kirat Rai, which are letters since Unicode 16 (Python 3.14)."""


def text_bound_bytes(text: bytes) -> int:
    """Return the maximum bytes of a UTF-8 text that a tokenizer sees, and so its maximum tokens.

    This holds for byte-level BPE, where a token covers at least one byte. The result is the size of the text,
    or of its NFC form if that is larger: some tokenizers normalize first, which can triple the size.
    """
    if text.isascii():
        return len(text)
    return max(len(text), sum(map(_normalized_bound_bytes, _pieces(text.decode()))))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text before letters, so that its NFC form is that of its pieces."""
    start = 0
    for at in range(PIECE_CHARACTERS, len(text), PIECE_CHARACTERS):
        if cut := _LETTER.search(text, at, at + PIECE_CHARACTERS):
            yield text[start : cut.start()]
            start = cut.start()
    yield text[start:]


def _normalized_bound_bytes(text: str) -> int:
    """Return the maximum bytes of the NFC form of a piece; of one without letters, an upper bound."""
    size_bytes = len(text.encode())
    if len(text) > MAX_PIECE_CHARACTERS:
        return BYTES_PER_MARK_BYTE * size_bytes
    without_marks = _MARKS.sub(" ", text)
    marks_bytes = max(0, size_bytes - len(without_marks.encode()))
    return len(unicodedata.normalize("NFC", without_marks).encode()) + BYTES_PER_MARK_BYTE * marks_bytes


ESCAPE_BYTES = 5
"""Maximum growth of a character that is escaped in the attribute of an XML element: `"` becomes `&quot;`."""

_ESCAPED = b"&<>\"'"


def name_bound_tokens(name: str) -> int:
    """Return the maximum tokens of a name that a template writes as text or as an attribute."""
    written = name.encode()
    return text_bound_bytes(written) + escape_bytes(written)


def escape_bytes(names: bytes) -> int:
    """Return the maximum bytes that XML escapes add to names."""
    return ESCAPE_BYTES * (len(names) - len(names.translate(None, _ESCAPED)))


def least_text_bytes(text: bytes) -> int:
    """Return the bytes of a UTF-8 text, or of its NFC form if that is smaller; 0 for many marks."""
    if text.isascii():
        return len(text)
    return min(len(text), sum(map(_least_normalized_bytes, _pieces(text.decode()))))


def _least_normalized_bytes(text: str) -> int:
    if len(text) > MAX_PIECE_CHARACTERS or _MARKS.search(text):
        return 0
    return len(unicodedata.normalize("NFC", text).encode())
