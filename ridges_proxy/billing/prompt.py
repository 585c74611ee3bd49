"""A prompt as it goes upstream, with the bound of each message. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import TYPE_CHECKING, Any

import orjson

from ridges_proxy.billing.call_arguments import may_be_parsed
from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.billing.exact_counts import counted_tokens, field_texts, message_texts
from ridges_proxy.billing.prompt_fields import RENDERED_FIELDS
from ridges_proxy.billing.rendered_bounds import (
    CALL_BOUND_TOKENS,
    NESTED_TOO_DEEPLY,
    UncountableError,
    field_bound_tokens,
    message_bound_tokens,
)
from ridges_proxy.billing.repeats import repeated_tokens
from ridges_proxy.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ridges_proxy.billing.exact_counts import TokenCounter

_UNBOUNDED = (orjson.JSONEncodeError, UncountableError)
"""The errors of values that cannot be serialized or bounded: orjson reads 1,024 levels, but writes 254."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of a request, and the maximum tokens of each."""

    parts: tuple[bytes, ...]
    """The JSON of each message. The same bytes go upstream."""
    roles: tuple[str, ...]
    """The role of each message; empty if it is no string."""
    bounds: tuple[int, ...]
    """The maximum tokens of each message, the template's markers around it included."""
    call_bound: int
    """The maximum tokens of everything else: the template's own text, tools, other rendered fields."""
    tokens: int = field(init=False)
    """The maximum tokens of the whole prompt: the sum of all bounds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", self.call_bound + sum(self.bounds))

    @classmethod
    def of(
        cls,
        messages: Sequence[Mapping[str, Any]],
        fields: Mapping[str, Any],
        counter: TokenCounter | None = None,
    ) -> Prompt:
        """Serialize each message once, and compute its bound and that of the request's other fields.

        With a counter, a bound is what it counts, unless the bytes are a lower bound.
        Raises InvalidRequestError for a field that is nested too deeply to be serialized or bounded.
        """
        field_tokens = _field_tokens(fields, counter)
        parse = may_be_parsed(messages)
        try:
            parts = tuple(map(compact_json, messages))
            roles = tuple(map(_role, messages))
            repeated = repeated_tokens(messages, roles, field_tokens)
            own: Iterable[int] = map(partial(message_bound_tokens, parse=parse), messages, parts)
            if counter is not None:
                own = map(
                    min, own, counted_tokens([message_texts(each, parse=parse) for each in messages], counter)
                )
            bounds = tuple(map(add, own, repeated))
        except _UNBOUNDED:
            raise _refusal("messages") from None
        return cls(parts, roles, bounds, CALL_BOUND_TOKENS + sum(field_tokens.values()))

    @property
    def json(self) -> bytes:
        """The JSON of all messages, as it goes upstream."""
        return b"[" + b",".join(self.parts) + b"]"


def _role(message: Mapping[str, Any]) -> str:
    role = message.get("role")
    return role if isinstance(role, str) else ""


def _field_tokens(fields: Mapping[str, Any], counter: TokenCounter | None) -> dict[str, int]:
    """Return the maximum tokens of each field that is rendered into the prompt."""
    tokens = {}
    for name in RENDERED_FIELDS & fields.keys():
        try:
            tokens[name] = field_bound_tokens(name, fields[name])
        except _UNBOUNDED:
            raise _refusal(name) from None
    if counter is not None and tokens:
        counted = counted_tokens([field_texts(name, fields[name]) for name in tokens], counter)
        return dict(zip(tokens, map(min, tokens.values(), counted), strict=True))
    return tokens


def _refusal(name: str) -> InvalidRequestError:
    """Return the error for a field of this name that cannot be serialized or bounded."""
    return InvalidRequestError([Problem(["body", name], NESTED_TOO_DEEPLY, "value_error")])
