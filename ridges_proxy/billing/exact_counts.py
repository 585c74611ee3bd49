"""Bounds of prompts whose texts a tokenizer counts, in place of their bytes. Pure.

What a template writes around the texts is still bounded by allowances. A text that is written in one of
several forms counts in the longest one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ridges_proxy.billing.bounds import escape_bytes
from ridges_proxy.billing.call_arguments import INDENT, TOKENS_PER_KEY
from ridges_proxy.billing.rendered_bounds import (
    MAX_IMAGE_TOKENS,
    TOKENS_FOR_TOOLS,
    compact_names,
    count_of_texts,
    indentation_bytes,
    python_escape_bytes,
    with_parsed_arguments,
)
from ridges_proxy.billing.repeats import may_be_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOKENS_PER_ELEMENT = 32
"""Allowance for the markers around a message, a part of one, or a tool call: Kimi K3's template writes 29
around a message with tool calls. Without the bytes of the JSON, it has to cover them all."""

TOKENS_PER_LINE = 4
"""Allowance for each line of a tool's text: Kimi K2.5's template writes each line of a description as a
comment, with its mark and an indentation."""

MAX_INDENTATION = 8
"""A value is written with indentation, to be counted, if that adds at most this many times its bytes. Tools
have 1 to 3 times. A nested list of 200 kB has 250 times: 50 MB and four seconds."""

TOKENS_PER_TEXT = 4
"""Allowance for each text in a tool or a tool call: Gemma 4's template writes a marker on each side of it,
and a comma. In JSON, the quotes and the comma may be one token."""

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


def message_texts(message: Mapping[str, Any], *, parse: bool = True) -> Texts:
    """Return the texts of a message. Raises UncountableError for tool calls that are nested too deeply."""
    allowance_tokens = TOKENS_PER_ELEMENT
    once = [value for name, value in message.items() if isinstance(value, str) and name != "content"]
    forms = _content_forms(message)
    if isinstance(name := message.get("name"), str):
        allowance_tokens += escape_bytes(name.encode())
    if isinstance(content := message.get("content"), list):
        allowance_tokens += sum(map(_part_tokens, content))
    for tool_call in message.get("tool_calls") or ():
        parsed, added_tokens = with_parsed_arguments(tool_call, parse=parse)
        allowance_tokens += TOKENS_PER_ELEMENT + _structure_tokens(parsed) + added_tokens
        forms.append((*_forms(parsed), tool_call["function"]["arguments"]))
    return Texts(allowance_tokens, tuple(once), tuple(forms))


def field_texts(name: str, value: object) -> Texts:
    """Return the texts of a field that is rendered into the prompt."""
    allowance_tokens = _structure_tokens(value) + (TOKENS_FOR_TOOLS if name == "tools" else 0)
    compact = orjson.dumps(value)
    names = compact_names(compact).decode()
    allowance_tokens += compact.count(rb"\n") * TOKENS_PER_LINE
    forms: tuple[str, ...] = _forms(value)
    indentation = indentation_bytes(value)
    if indentation <= MAX_INDENTATION * len(compact):
        forms += (json.dumps(value, ensure_ascii=False, indent=INDENT),)
    else:
        allowance_tokens += indentation
    return Texts(allowance_tokens, (names,), (forms,), TIMES_WRITTEN)


def _content_forms(message: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the forms of each text in a content. A template may write a tool's result also as JSON."""
    content, is_result = message.get("content"), may_be_result(message.get("role"))
    if isinstance(content, str):
        if not is_result:
            return [(content,)]
        content = [{"type": "text", "text": content}]  # engines may pass it on as one part
    texts = [part for part in content or () if part["type"] != "image_url"]
    if is_result:
        return [_result_forms(part) for part in texts]
    return [(part[part["type"]], repr(part)) for part in texts]


def _result_forms(part: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the forms of a part. Python's takes long to write, and is mostly no longer than JSON."""
    text = part[part["type"]]
    forms = (text, _json(part))
    return (*forms, repr(part)) if python_escape_bytes(text) else forms


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _part_tokens(part: Mapping[str, Any]) -> int:
    return TOKENS_PER_ELEMENT + (MAX_IMAGE_TOKENS if part["type"] == "image_url" else 0)


def _structure_tokens(value: object) -> int:
    """Return the allowance for what is written around keys and texts: markers, and XML escapes of names."""
    compact = orjson.dumps(value)
    marker_tokens = compact.count(b'":') * TOKENS_PER_KEY + count_of_texts(compact) * TOKENS_PER_TEXT
    return marker_tokens + escape_bytes(compact_names(compact))


def _forms(value: object) -> tuple[str, str, str]:
    """Return a value as JSON, as Python writes it, and as its keys and scalars, one a line."""
    return _json(value), repr(value), "\n".join(_scalars(value))


def _scalars(value: object) -> list[str]:
    """Return all keys and scalars, in their order.

    Without recursion: nested generators took 3 s for 200 kB of nested lists.
    """
    found: list[str] = []
    pending: list[Any] = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += [part for item in reversed(each.items()) for part in reversed(item)]
        elif isinstance(each, list):
            pending += reversed(each)
        else:
            found.append(str(each))
    return found
