"""Upper bounds for the tokens of a text, for every byte-level tokenizer. Pure."""

from __future__ import annotations

import re
import unicodedata

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


def text_bound_bytes(text: bytes) -> int:
    """Return the maximum bytes of a UTF-8 text that a tokenizer sees, and so its maximum tokens.

    This holds for byte-level BPE, where a token covers at least one byte. The result is the size of the text,
    or of its NFC form if that is larger: some tokenizers normalize first, which can triple the size.
    """
    if text.isascii():
        return len(text)
    without_marks = _MARKS.sub(" ", text.decode()).encode()
    marks_bytes = max(0, len(text) - len(without_marks))
    normalized = unicodedata.normalize("NFC", without_marks.decode()).encode()
    return max(len(text), len(normalized) + BYTES_PER_MARK_BYTE * marks_bytes)


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
    """Return the bytes of a UTF-8 text, or of its NFC form if that is smaller; 0 for a run of marks."""
    if text.isascii():
        return len(text)
    decoded = text.decode()
    return (
        0 if _MARKS.search(decoded) else min(len(text), len(unicodedata.normalize("NFC", decoded).encode()))
    )
