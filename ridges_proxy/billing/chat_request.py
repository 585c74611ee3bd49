"""A checked chat completion request, the bound of its prompt, and the body that goes upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.billing.hidden_tokens import may_hide_tokens
from ridges_proxy.billing.prompt import Prompt
from ridges_proxy.billing.prompt_fields import RENDERED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.exact_counts import TokenCounter


CHUNK_USAGE_OPTION = "continuous_usage_stats"
"""The stream option by which vLLM and SGLang report the usage in each chunk. It needs `include_usage`."""

_OPTIONS = b'"stream_options":{"include_usage":true}}'
_OPTIONS_WITH_CHUNK_USAGE = b'"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'
"""The ends of the bodies of streamed requests."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked chat completion request."""

    prompt: Prompt
    """The messages as they go upstream, with their bounds."""
    fields: Mapping[str, Any]
    """All other fields that go upstream unchanged; those that may be large, as JSON."""
    prompt_tokens: int
    """The maximum tokens of the prompt, counted once for all choices. At most that of its bounds."""
    max_tokens: int
    """The maximum tokens of each choice."""
    choices: int = 1
    shows_usage: bool = False
    """Whether the client of a stream asked for the usage."""
    shows_chunk_usage: bool = False
    """Whether it asked for the usage in each chunk."""
    hides_tokens: bool = False
    """Whether the model may generate tokens that the upstream does not send."""
    shows_cost: bool = False
    """Whether the client asked for the cost of the call in the usage of the answer."""

    @classmethod
    def of(  # noqa: PLR0913 - one argument for each part of a request
        cls,
        messages: list[dict[str, Any]],
        fields: Mapping[str, Any],
        max_tokens: int,
        *,
        choices: int = 1,
        shows_usage: bool = False,
        shows_chunk_usage: bool = False,
        shows_cost: bool = False,
        counter: TokenCounter | None = None,
    ) -> ChatRequest:
        """Serialize the messages and compute the bound of the prompt.

        Raises InvalidRequestError for a field that is nested too deeply to be serialized or bounded.
        """
        prompt = Prompt.of(messages, fields, counter)
        return cls(
            prompt,
            _serialized(fields),
            prompt.tokens,
            max_tokens,
            choices,
            shows_usage,
            shows_chunk_usage,
            may_hide_tokens(fields),
            shows_cost,
        )


def _serialized(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Serialize the fields that may be large.

    While a call waits, the garbage collector scans each of its lists and objects again and again.
    """
    return {
        name: orjson.Fragment(compact_json(value)) if name in RENDERED_FIELDS else value
        for name, value in fields.items()
    }


def upstream_body(chat: ChatRequest, model: str | None, max_tokens: int, *, stream: bool) -> bytes:
    """Return the body of the request to the upstream. A stream asks for the usage, also in each chunk."""
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
        body["stream_options"] = {"include_usage": True, CHUNK_USAGE_OPTION: True}  # the last field
    return compact_json(body)


def without_chunk_usage(body: bytes) -> bytes:
    """Return the body of a streamed request that does not ask for the usage in each chunk."""
    if not body.endswith(_OPTIONS_WITH_CHUNK_USAGE):
        return body
    return body.removesuffix(_OPTIONS_WITH_CHUNK_USAGE) + _OPTIONS
