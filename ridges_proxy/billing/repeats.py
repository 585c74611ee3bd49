"""Tokens of texts that chat templates write again at other messages. Pure.

    what is written again      where                                         known from
    name of a called function  before each tool message                      gpt-oss, Kimi K3, Gemma 4
    tools                      at each user message that equals the last one Mistral
    tools, constraints         at each developer message but a first one     DeepSeek V3.2

The extra tokens count at the message that adds them to a conversation. So the bound of a longer conversation
is that of the shorter one and those of its new messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.bounds import name_bound_tokens
from ridges_proxy.billing.prompt_fields import FIELDS_AT_DEVELOPERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAIN_ROLES = frozenset({"system", "developer", "user", "assistant"})
"""Roles that never carry the result of a tool. Engines use several names for the others."""


def may_be_result(role: object) -> bool:
    """Whether a message with this role may carry the result of a tool."""
    return not isinstance(role, str) or role not in PLAIN_ROLES


def repeated_tokens(
    messages: Sequence[Mapping[str, Any]], roles: Sequence[str], field_tokens: Mapping[str, int]
) -> list[int]:
    """Return for each message the maximum tokens of the texts that templates write again at it.

    `field_tokens` has the bounds of the request's other rendered fields.
    """
    tokens = _called_name_tokens(messages, roles)
    for index, role in enumerate(roles):
        if role == "developer" and index:
            tokens[index] += sum(field_tokens.get(name, 0) for name in FIELDS_AT_DEVELOPERS)
    if "tools" in field_tokens and "user" in roles:
        texts = {index: _text(messages[index]) for index, role in enumerate(roles) if role == "user"}
        last = max(texts)
        equal = sum(text == texts[last] for text in texts.values())
        tokens[last] += (equal - 1) * field_tokens["tools"]
    return tokens


def _called_name_tokens(messages: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> list[int]:
    """Return for each tool message the maximum tokens of any name that was called before it; 0 for others."""
    tokens, longest = [], 0
    for message, role in zip(messages, roles, strict=True):
        tokens.append(longest if may_be_result(role) else 0)
        if calls := message.get("tool_calls"):
            longest = max(longest, *(name_bound_tokens(each["function"]["name"]) for each in calls))
    return tokens


def _text(message: Mapping[str, Any]) -> str:
    """Return the text of a message. Engines join the parts of a content, with line breaks between them."""
    content = message.get("content")
    if not isinstance(content, list):
        return str(content).replace("\n", "")
    return "".join(part["text"] for part in content if part["type"] == "text").replace("\n", "")
