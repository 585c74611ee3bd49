"""The most tokens that a text can count, whatever the tokenizer. Pure."""

from __future__ import annotations

import re
import unicodedata

TOKENS_PER_MESSAGE = 16
"""What a chat template puts around one message: at most 7 tokens in the templates of the models served
by Chutes; doubled, and rounded up."""

TOKENS_PER_CALL = 256
"""What a chat template puts before the first message by itself: the longest we know, a default system
text of about 850 characters, has some 200 tokens; most have none."""

_MARK = r"[^\w\x00-\x7f\u2100-\u2bff\U0001f000-\U0001faff]"
_MARKS = re.compile(f"(?<!{_MARK}){_MARK}{{32,}}")
"""A run that may be all combining marks: they are no letters, no digits, and no symbols such as tables are
drawn with. The time to order them grows with the square of their number: hours for those in one body."""

BYTES_PER_MARK_BYTE = 4
"""NFC makes at most three bytes of one; the fourth is for what the marks make of the letter before them."""


def prompt_bound_tokens(sent: bytes, messages: int) -> int:
    """The most tokens that a prompt can count: its text's, and an allowance for the chat template."""
    return text_bound_bytes(sent) + messages * TOKENS_PER_MESSAGE + TOKENS_PER_CALL


def text_bound_bytes(text: bytes) -> int:
    """The most bytes that a UTF-8 text can have for a tokenizer, and so the most tokens.

    True for byte-level BPE, where a token covers at least one byte: the text's bytes, or those of its
    NFC form if that is longer (some tokenizers normalize first, and it can take three times the bytes).
    """
    if text.isascii():
        return len(text)
    calm = _MARKS.sub(" ", text.decode()).encode()
    marks_bytes = max(0, len(text) - len(calm))
    normalized = unicodedata.normalize("NFC", calm.decode()).encode()
    return max(len(text), len(normalized) + BYTES_PER_MARK_BYTE * marks_bytes)
