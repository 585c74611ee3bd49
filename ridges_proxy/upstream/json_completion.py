"""Reading of a chat completion that is not streamed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.answer_ids import usable_id
from ridges_proxy.upstream.chunk_tokens import max_tokens_of, text_bytes_of
from ridges_proxy.upstream.error_object import error_in_document
from ridges_proxy.upstream.large_json import parse_large_json
from ridges_proxy.upstream.stream_tries import is_failed_end
from ridges_proxy.upstream.strict_json import LARGE_BYTES, parse_json
from ridges_proxy.upstream.usage import parse_usage

if TYPE_CHECKING:
    from ridges_proxy.upstream.attempt import Attempt


def record_json_completion(content: bytes, attempt: Attempt, secret: str) -> bytes:
    """Record on the attempt what a response shows about its cost, and that it is complete.

    Returns the response as strict JSON: unchanged, except for NaN and infinities. One above LARGE_BYTES
    should be read in a thread.

    Raises the error of an error object in place of the response, which is charged like an error status.
    Raises UpstreamBrokenError for invalid data, which counts its bytes because it may have been billed, and
    for a completion of which a choice ended with a failure.
    """
    attempt.received_tokens = len(content)
    parse = parse_large_json if len(content) > LARGE_BYTES else parse_json
    try:
        content, document = parse(content)
    except ValueError:
        raise UpstreamBrokenError from None
    error = error_in_document(document, content, attempt, secret)
    if error is not None:
        raise error
    messages = _messages(document)
    if messages is None:
        raise UpstreamBrokenError
    attempt.answer_id = usable_id(document.get("id"))
    try:
        max_tokens, text_bytes = sum(map(max_tokens_of, messages)), sum(map(text_bytes_of, messages))
    except UnicodeEncodeError:  # a lone surrogate in a large response
        raise UpstreamBrokenError from None
    attempt.received_tokens, attempt.text_bytes = max_tokens, text_bytes
    usage = parse_usage(document.get("usage"))
    if usage:
        attempt.record_usage(usage)
    attempt.complete = True
    if any(is_failed_end(choice.get("finish_reason")) for choice in document["choices"]):
        raise UpstreamBrokenError
    return content


def _messages(document: object) -> list[dict[str, Any]] | None:
    """Return the message of every choice; None if the document is not a completion."""
    if not isinstance(document, dict) or document.get("error"):
        return None
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    messages = [choice.get("message") if isinstance(choice, dict) else None for choice in choices]
    valid = [message for message in messages if isinstance(message, dict)]
    return valid if len(valid) == len(messages) else None
