"""The usage that an upstream reports, read with care: it is what runs are charged by. Pure."""

from __future__ import annotations

from typing import Any, TypeGuard

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage

SLACK_DELTAS = 64
SLACK_BYTES = 512
"""Of short answers nothing is proven, and little is at stake."""

DELTAS_PER_TOKEN = 2
"""A delta is a token or several; some servers split one, or send a tool's name in a delta of its own."""

BYTES_PER_TOKEN = 16
"""Texts have 3 to 6 bytes a token (DeepSeek's and OpenAI's tokenizers); rows of one sign may have more."""


def most_text_bytes(tokens: float) -> float:
    """The bytes of text above which an answer has more than so many tokens."""
    return BYTES_PER_TOKEN * tokens + SLACK_BYTES


def is_disproved(usage: Usage, deltas: int, text_bytes: int) -> bool:
    """Whether an answer has far more deltas, or bytes of text, than the reported tokens can make up."""
    tokens = usage.completion_tokens
    return deltas > DELTAS_PER_TOKEN * tokens + SLACK_DELTAS or text_bytes > most_text_bytes(tokens)


def usage_from(value: object) -> Usage | None:
    """The usage that an upstream reports, or None if it is absent, incomplete or makes no sense.

    It takes both parts or the total; what the total has above the parts is completion. There is no
    call without a prompt, so a prompt of nothing makes sense only under a total. What was cached is
    believed only as a count within the prompt: otherwise it would make a call cheaper than it was.
    """
    if not isinstance(value, dict):
        return None
    counts = [value.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if any(count is not None and not _is_count(count) for count in counts):
        return None
    prompt, completion, total = (count or 0 for count in counts)
    if not total and (not prompt or counts[1] is None):
        return None
    return Usage(prompt, max(completion, total - prompt), _cached_tokens(value, prompt))


def _cached_tokens(usage: dict[str, Any], prompt_tokens: int) -> int:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return cached if _is_count(cached) and cached <= prompt_tokens else 0


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNTED_TOKENS
