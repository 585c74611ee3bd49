"""Bounds of prompts whose texts a tokenizer counts, in place of their bytes. Pure.

What a template writes around the texts is still bounded by allowances. A text that is written in one of
several forms counts in the longest one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ridges_proxy.billing.bounds import escape_bytes
from ridges_proxy.billing.call_arguments import TOKENS_PER_KEY
from ridges_proxy.billing.rendered_bounds import (
    MAX_IMAGE_TOKENS,
    TOKENS_FOR_TOOLS,
    compact_names,
    with_parsed_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOKENS_PER_ELEMENT = 32
"""Allowance for the markers around a message, a part of one, or a tool call: Kimi K3's template writes 29
around a message with tool calls. Without the bytes of the JSON, it has to cover them all."""

TOKENS_PER_LINE = 4
"""Allowance for each line of a tool's text: Kimi K2.5's template writes each line of a description as a
comment, with its mark and an indentation."""

TIMES_WRITTEN = 2
"""How often a template may write the texts of a tool. Names are counted once more."""


class TokenCounter(Protocol):
    """A model's tokenizer."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        ...


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a message or field. Its bound is the sum of all its numbers."""

    allowance_tokens: int
    """The tokens of everything but the texts."""
    once: tuple[str, ...] = ()
    """Texts that are written once each."""
    forms: tuple[tuple[str, ...], ...] = ()
    """Texts in several forms, of each of which one is written."""
    times: int = 1
    """How often the forms are written."""


def counted_tokens(all_texts: Sequence[Texts], counter: TokenCounter) -> list[int]:
    """Return the maximum tokens of each message or field."""
    texts = [text for each in all_texts for text in chain(each.once, *each.forms)]
    counts = iter(counter.count(texts))
    return [_tokens(each, counts) for each in all_texts]


def _tokens(texts: Texts, counts: Iterator[int]) -> int:
    tokens = texts.allowance_tokens + sum(next(counts) for _ in texts.once)
    return tokens + texts.times * sum(max(next(counts) for _ in form) for form in texts.forms)


def message_texts(message: Mapping[str, Any]) -> Texts:
    """Return the texts of a message. Raises UncountableError for tool calls without a known bound."""
    allowance_tokens = TOKENS_PER_ELEMENT
    once = [value for name, value in message.items() if isinstance(value, str)]
    forms: list[tuple[str, ...]] = []
    if isinstance(name := message.get("name"), str):
        allowance_tokens += escape_bytes(name.encode())
    if isinstance(content := message.get("content"), list):
        allowance_tokens += sum(map(_part_tokens, content))
        forms += [(part[part["type"]], repr(part)) for part in content if part["type"] != "image_url"]
    for tool_call in message.get("tool_calls") or ():
        parsed, added_tokens = with_parsed_arguments(tool_call)
        allowance_tokens += TOKENS_PER_ELEMENT + _name_tokens(parsed) + added_tokens
        forms.append((*_forms(parsed), tool_call["function"]["arguments"]))
    return Texts(allowance_tokens, tuple(once), tuple(forms))


def field_texts(name: str, value: object) -> Texts:
    """Return the texts of a field that is rendered into the prompt."""
    allowance_tokens = _name_tokens(value) + (TOKENS_FOR_TOOLS if name == "tools" else 0)
    indented = json.dumps(value, ensure_ascii=False, indent=4)
    compact = orjson.dumps(value)
    names = compact_names(compact).decode()
    allowance_tokens += compact.count(rb"\n") * TOKENS_PER_LINE
    return Texts(allowance_tokens, (names,), ((*_forms(value), indented),), TIMES_WRITTEN)


def _part_tokens(part: Mapping[str, Any]) -> int:
    return TOKENS_PER_ELEMENT + (MAX_IMAGE_TOKENS if part["type"] == "image_url" else 0)


def _name_tokens(value: object) -> int:
    """Return the allowance for the keys of a value: markers around each, and XML escapes."""
    compact = orjson.dumps(value)
    return compact.count(b'":') * TOKENS_PER_KEY + escape_bytes(compact_names(compact))


def _forms(value: object) -> tuple[str, str, str]:
    """Return a value as JSON, as Python writes it, and as its keys and scalars, one a line."""
    return json.dumps(value, ensure_ascii=False), repr(value), "\n".join(_scalars(value))


def _scalars(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (text for key, each in value.items() for text in (key, *_scalars(each)))
    elif isinstance(value, list):
        yield from (text for each in value for text in _scalars(each))
    else:
        yield str(value)
