"""A chat completion as it is asked for: what goes upstream, and the most that its prompt can count. Pure."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.bounds import prompt_bound_tokens, text_bound_bytes
from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_IMAGE_TOKENS = 16_384
"""The most tokens of one image, whatever its size: what Qwen2.5-VL and Qwen3-VL make of their largest
(12,845,056 pixels at 28 x 28 a token); the other families served by Chutes stay below 4,096."""

TOKENS_FOR_TOOLS = 1_024
"""What a chat template says about tools in general: about 400 tokens in the longest that we know
(Qwen3-Coder's), doubled, and rounded up."""

TOKENS_PER_KEY = 16
"""What a template puts around one name of a tool's JSON where it writes XML instead: 28 tokens for a
parameter of Qwen3-Coder's, which has two names or more (its own and `type`)."""

INDENT = 4

MAX_DEPTH = 128
"""Levels of lists and objects in one value: the serializer writes 254 in all, some of them around it."""

NESTED_TOO_DEEPLY = "Input is nested too deeply"
NO_STRICT_JSON = (
    "The arguments of a call may not have NaN, infinities or lone surrogates, nor be nested too deeply"
)

RENDERED_FIELDS = frozenset({"tools", "tool_choice", "response_format", "chat_template_kwargs"})
"""What chat templates write into the prompt, in a form of their own."""


class UncountableError(ValueError):
    """What a template would make of a value has no bound here; the message says why."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the caller wants, checked; `max_tokens` is for each of the choices."""

    messages: bytes
    """As JSON: what goes upstream is what was counted."""
    fields: Mapping[str, Any]
    """All else that goes upstream as it came."""
    prompt_tokens: int
    """The most that the prompt can count, once."""
    max_tokens: int
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
        """Count the prompt, and put the parts together.

        Raises InvalidRequestError for a field that is nested deeper than can be written again.
        """
        with _naming("messages"):
            sent = compact_json(messages)
            prompt_tokens = prompt_bound_tokens(sent, len(messages)) + _hidden_tokens(messages)
        prompt_tokens += TOKENS_FOR_TOOLS if "tools" in fields else 0
        for name in RENDERED_FIELDS & fields.keys():
            with _naming(name):
                prompt_tokens += rendered_bound_tokens(fields[name])
        return cls(sent, fields, prompt_tokens, max_tokens, choices, shows_usage)


def upstream_body(chat: ChatRequest, model: str | None, max_tokens: int, *, stream: bool) -> bytes:
    """The request as it goes upstream; the usage of a stream is always asked for."""
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


def rendered_bound_tokens(value: object) -> int:
    """The most tokens that a JSON value counts in a prompt, however a template writes it.

    Counted are its bytes as they are sent and once more as they are written: indented by INDENT, with
    the numbers in Python's form (1e15 becomes 1000000000000000.0), and TOKENS_PER_KEY for each name.
    Raises UncountableError for a value that is nested deeper than MAX_DEPTH.
    """
    indentation_bytes = _indentation_bytes(value)
    compact = orjson.dumps(value)
    written = json.dumps(value, ensure_ascii=False)
    names = compact.count(b'":')
    return (
        text_bound_bytes(compact)
        + text_bound_bytes(written.encode())
        + indentation_bytes
        + names * TOKENS_PER_KEY
    )


def _indentation_bytes(value: object) -> int:
    """What indented lines take beside their text: counted, as written out it can be 200 times the value."""
    size_bytes, level = 0, _filled([value])
    for depth in range(1, MAX_DEPTH + 1):
        lines = sum(map(len, level))
        size_bytes += lines * (1 + INDENT * depth) + len(level) * (1 + INDENT * (depth - 1))
        level = _filled(
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        )
        if not level:
            return size_bytes
    raise UncountableError(NESTED_TOO_DEEPLY)


def _filled(values: Iterable[object]) -> list[dict[str, object] | list[object]]:
    """Those that are objects or lists, and not empty."""
    return [value for value in values if isinstance(value, dict | list) and value]


@contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except (orjson.JSONEncodeError, UncountableError) as error:  # what it reads 1,024 deep it writes 254 deep
        words = str(error) if isinstance(error, UncountableError) else NESTED_TOO_DEEPLY
        raise InvalidRequestError([Problem(["body", field], words, "value_error")]) from None


def _hidden_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """What messages can count beyond their bytes: images, and calls of tools written anew."""
    return sum(
        _image_tokens(message.get("content")) + _tool_call_tokens(message.get("tool_calls"))
        for message in messages
    )


def _image_tokens(content: object) -> int:
    """An image counts its bytes, as all that is sent, or MAX_IMAGE_TOKENS if that is more."""
    if not isinstance(content, list):
        return 0
    urls = (part["image_url"]["url"] for part in content if part["type"] == "image_url")
    return sum(max(0, MAX_IMAGE_TOKENS - len(url)) for url in urls)


def _tool_call_tokens(tool_calls: object) -> int:
    """Calls as templates write them: their arguments as JSON of their own, and all that stands beside."""
    if not isinstance(tool_calls, list):
        return 0
    return sum(rendered_bound_tokens({**each, "function": _parsed(each["function"])}) for each in tool_calls)


def _parsed(function: Mapping[str, Any]) -> dict[str, Any]:
    """A called function with its arguments parsed, as engines do it before their template writes them."""
    arguments = function["arguments"]
    try:
        return {**function, "arguments": orjson.loads(arguments)}
    except orjson.JSONDecodeError:
        if _is_json_to_engines(arguments):
            raise UncountableError(NO_STRICT_JSON) from None
        return {**function, "arguments": arguments}


def _is_json_to_engines(text: str) -> bool:
    """Whether Python's reader takes it, which knows NaN and infinities and may read any depth."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
