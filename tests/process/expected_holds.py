"""Holds and costs in nano-USD, computed apart from the service by the README and the default prices."""

from __future__ import annotations

import json

from ridges_proxy.billing.bounds import TOKENS_PER_CALL, TOKENS_PER_MESSAGE
from tests.process.server import chat

NANOUSD_PER_TOKEN = 270
MAX_TOKENS = 1024
MIN_COMPLETION_TOKENS = 16
EMBEDDING_NANOUSD_PER_SECOND = 100_000
EMBEDDING_DEADLINE_SECONDS = 30

EMBEDDING_HOLD = EMBEDDING_DEADLINE_SECONDS * EMBEDDING_NANOUSD_PER_SECOND
SHORT_EMBEDDING_HOLD = EMBEDDING_NANOUSD_PER_SECOND // 2
"""At the deadline of `brief_proxy`, which is half a second."""


def bound(prompt: str, received_tokens: int = 0) -> int:
    """Return the maximum cost of an inference with this prompt, if so many tokens were received."""
    sent = json.dumps(chat("", prompt)["messages"], separators=(",", ":"), ensure_ascii=False).encode()
    prompt_tokens = len(sent) + TOKENS_PER_MESSAGE + TOKENS_PER_CALL
    return (prompt_tokens + received_tokens) * NANOUSD_PER_TOKEN


def may_be_cost(nanousd: int, prompt: str, received_tokens: int = 0) -> bool:
    """Whether an inference that ended early may cost this, without a usage.

    What may have been generated after the last text counts, too: 1,000 tokens for each second until the end.
    """
    return bound(prompt, received_tokens) <= nanousd <= hold(prompt)


def hold(prompt: str) -> int:
    """Return the hold of an inference with this prompt, if the budget covers it."""
    return bound(prompt, MAX_TOKENS)


def minimum(prompt: str) -> int:
    """Return the minimum that must remain for an inference with this prompt."""
    return bound(prompt, MIN_COMPLETION_TOKENS)
