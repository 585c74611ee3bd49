"""A checked chat completion request, the bound of its prompt, and the body that goes upstream. Pure."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.bounds import prompt_bound_tokens
from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.billing.rendered_bounds import (
    NESTED_TOO_DEEPLY,
    RENDERED_FIELDS,
    TOKENS_FOR_TOOLS,
    UncountableError,
    extra_message_tokens,
    rendered_bound_tokens,
)
from ridges_proxy.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked chat completion request."""

    messages: bytes
    """The JSON that was counted. The same bytes go upstream."""
    fields: Mapping[str, Any]
    """All other fields that go upstream unchanged."""
    prompt_tokens: int
    """The maximum tokens of the prompt, counted once for all choices."""
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
        with _reported_as("messages"):
            sent = compact_json(messages)
            prompt_tokens = prompt_bound_tokens(sent, len(messages)) + extra_message_tokens(messages)
        prompt_tokens += TOKENS_FOR_TOOLS if "tools" in fields else 0
        for name in RENDERED_FIELDS & fields.keys():
            with _reported_as(name):
                prompt_tokens += rendered_bound_tokens(fields[name])
        return cls(sent, fields, prompt_tokens, max_tokens, choices, shows_usage)


def upstream_body(chat: ChatRequest, model: str | None, max_tokens: int, *, stream: bool) -> bytes:
    """Return the body of the request to the upstream. A stream always asks for the usage."""
    body = {
        "model": model,
        "messages": orjson.Fragment(chat.messages),
        **chat.fields,
        "stream": stream,
        "max_tokens": max_tokens,
    }
    if chat.choices > 1:
        body["n"] = chat.choices
    if stream:
        body["stream_options"] = {"include_usage": True}
    return compact_json(body)


@contextmanager
def _reported_as(field: str) -> Iterator[None]:
    """Turn a value that cannot be serialized or bounded into InvalidRequestError with the field's name."""
    try:
        yield
    except (orjson.JSONEncodeError, UncountableError) as error:  # orjson reads 1,024 levels, but writes 254
        message = str(error) if isinstance(error, UncountableError) else NESTED_TOO_DEEPLY
        raise InvalidRequestError([Problem(["body", field], message, "value_error")]) from None
