"""A chat completion that came in one piece. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.errors import UpstreamBrokenError
from ridges_proxy.upstream.chunk_tokens import bound_of, text_bytes_in
from ridges_proxy.upstream.usage import usage_from

if TYPE_CHECKING:
    from ridges_proxy.upstream.attempt import Attempt


def note_whole(answer: bytes, attempt: Attempt) -> None:
    """Note on the attempt what an answer shows of its cost, and that it is whole.

    Raises UpstreamBrokenError for what is no answer: an error inside a 200, or what is not understood. That
    counts its bytes, as it may be one all the same.
    """
    attempt.received_tokens = len(answer)
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        document = None
    messages = _messages(document)
    if messages is None:
        if isinstance(document, dict) and "choices" not in document:
            attempt.received_tokens = 0  # an error
        raise UpstreamBrokenError
    attempt.received_tokens = sum(map(bound_of, messages))
    attempt.text_bytes = sum(map(text_bytes_in, messages))
    attempt.usage = usage_from(document.get("usage"))
    attempt.complete = True


def _messages(document: object) -> list[dict[str, Any]] | None:
    """Every choice's message; None if the document is no answer."""
    if not isinstance(document, dict) or document.get("error"):
        return None
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    messages = [choice.get("message") if isinstance(choice, dict) else None for choice in choices]
    understood = [message for message in messages if isinstance(message, dict)]
    return understood if len(understood) == len(messages) else None
