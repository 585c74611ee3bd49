"""A checked chat completion request, the bound of its prompt, and the body that goes upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.billing.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked chat completion request."""

    prompt: Prompt
    """The messages as they go upstream, with their bounds."""
    fields: Mapping[str, Any]
    """All other fields that go upstream unchanged."""
    prompt_tokens: int
    """The maximum tokens of the prompt, counted once for all choices. At most that of its bounds."""
    max_tokens: int
    """The maximum tokens of each choice."""
    choices: int = 1
    shows_usage: bool = False
    """Whether the client of a stream asked for the usage."""

    @classmethod
    def of(
        cls,
        messages: list[dict[str, Any]],
        fields: Mapping[str, Any],
        max_tokens: int,
        *,
        choices: int = 1,
        shows_usage: bool = False,
    ) -> ChatRequest:
        """Serialize the messages and compute the bound of the prompt.

        Raises InvalidRequestError for a field that is nested too deeply to be serialized or bounded.
        """
        prompt = Prompt.of(messages, fields)
        return cls(prompt, fields, prompt.tokens, max_tokens, choices, shows_usage)


def upstream_body(chat: ChatRequest, model: str | None, max_tokens: int, *, stream: bool) -> bytes:
    """Return the body of the request to the upstream. A stream always asks for the usage."""
    body = {
        "model": model,
        "messages": orjson.Fragment(chat.prompt.json),
        **chat.fields,
        "stream": stream,
        "max_tokens": max_tokens,
    }
    if chat.choices > 1:
        body["n"] = chat.choices
    if stream:
        body["stream_options"] = {"include_usage": True}
    return compact_json(body)
