"""Validation of the usage that an upstream reports. Runs are charged by it. Pure."""

from __future__ import annotations

from typing import Any

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage

DELTAS_PER_TOKEN = 2
"""A delta has one token or several. Some servers split a token, or send a tool's name in a separate delta."""

BYTES_PER_TOKEN = 128
"""Bytes of the longest token of the common vocabularies: o200k_base and DeepSeek-V3's both have one of 128
spaces. Ordinary text has 3 to 6 bytes per token."""


MAX_DIGITS = len(str(MAX_COUNTED_TOKENS))


def max_text_bytes(tokens: float) -> float:
    """Return the most bytes of text that this number of tokens can have."""
    return BYTES_PER_TOKEN * tokens


def proven_tokens(deltas: int, text_bytes: int) -> int:
    """Return the fewest tokens that so many deltas with so many bytes of text can have."""
    return max(-(-text_bytes // BYTES_PER_TOKEN), -(-deltas // DELTAS_PER_TOKEN))


def parse_usage(value: object) -> Usage | None:
    """Return the usage that an upstream reports, or None if it is missing, incomplete or invalid.

    Both parts or the total are required. If the total is larger than the parts, the difference counts as
    completion. Every call has a prompt, so a prompt of 0 tokens is valid only with a total. The cached tokens
    are accepted only up to the prompt's tokens: a larger number would make the call too cheap.
    """
    if not isinstance(value, dict):
        return None
    if "input_tokens" not in value:
        return _usage_of(_counts_of_chat(value))
    usage = None if value.get("prompt_tokens") is None else _usage_of(_counts_of_chat(value))
    # Some gateways send both forms, and fill one of them.
    return usage or _usage_of(_counts_of_input(value))


def _usage_of(given: list[object]) -> Usage | None:
    """Return the usage of prompt, completion, total and cached tokens, or None if they are not valid."""
    counts = [_count_of(count) for count in given]
    if any(count is None and each is not None for each, count in zip(given, counts, strict=True)):
        return None
    prompt, completion, total, cached = (count or 0 for count in counts)
    if not total and (not prompt or counts[1] is None):
        return None
    return Usage(prompt, max(completion, total - prompt), cached if cached <= prompt else 0)


def _counts_of_chat(usage: dict[str, Any]) -> list[object]:
    """Return prompt, completion, total and cached tokens under the names of OpenAI's chat completions."""
    prompt, completion, total = map(usage.get, ("prompt_tokens", "completion_tokens", "total_tokens"))
    details = _cached_in(usage.get("prompt_tokens_details"))
    return [prompt, completion, total, details or _count_of(_cached_by_name(usage)) or 0]


def _cached_by_name(usage: dict[str, Any]) -> object:
    """Return the cached tokens under the names of DeepSeek's and of Moonshot's API."""
    hit_tokens = usage.get("prompt_cache_hit_tokens")
    return usage.get("cached_tokens") if hit_tokens is None else hit_tokens


def _counts_of_input(usage: dict[str, Any]) -> list[object]:
    """Return the same under the names `input_tokens` and `output_tokens`.

    Anthropic's form reports the tokens that were read from a cache, or written to it, apart from the input.
    """
    prompt, completion, total = map(usage.get, ("input_tokens", "output_tokens", "total_tokens"))
    cached = _cached_in(usage.get("input_tokens_details"))
    read, written = map(_count_of, map(usage.get, ("cache_read_input_tokens", "cache_creation_input_tokens")))
    prompt_count = _count_of(prompt)
    if prompt_count is None or not (read or written):
        return [prompt, completion, total, cached]
    return [prompt_count + (read or 0) + (written or 0), completion, total, read or 0]


def _cached_in(details: object) -> int:
    """Return the cached tokens in the details of a usage; 0 if they are missing or invalid."""
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return _count_of(cached) or 0


def _count_of(value: object) -> int | None:
    """Return a number of tokens as an integer, None for any other value.

    Some servers write whole floats. The JSON form of Protocol Buffers has 64-bit integers as strings.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNTED_TOKENS:
        return value
    return None
