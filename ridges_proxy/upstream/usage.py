"""Validation of the usage that an upstream reports. Runs are charged by it. Pure."""

from __future__ import annotations

from typing import Any, TypeGuard

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage

SLACK_DELTAS = 64
SLACK_BYTES = 512
"""Allowances before a usage is disproved: the counts of a short response are too small to compare."""

DELTAS_PER_TOKEN = 2
"""A delta has one token or several. Some servers split a token, or send a tool's name in a separate delta."""

BYTES_PER_TOKEN = 16
"""Text has 3 to 6 bytes per token (tokenizers of DeepSeek and OpenAI); runs of one character have more."""


def max_text_bytes(tokens: float) -> float:
    """Return the most bytes of text that this number of tokens can have."""
    return BYTES_PER_TOKEN * tokens + SLACK_BYTES


def is_disproved(usage: Usage, deltas: int, text_bytes: int) -> bool:
    """Whether a response has far more deltas or bytes of text than the reported tokens can make up."""
    tokens = usage.completion_tokens
    return deltas > DELTAS_PER_TOKEN * tokens + SLACK_DELTAS or text_bytes > max_text_bytes(tokens)


def parse_usage(value: object) -> Usage | None:
    """Return the usage that an upstream reports, or None if it is missing, incomplete or invalid.

    Both parts or the total are required. If the total is larger than the parts, the difference counts as
    completion. Every call has a prompt, so a prompt of 0 tokens is valid only with a total. The cached tokens
    are accepted only up to the prompt's tokens: a larger number would make the call too cheap.
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
