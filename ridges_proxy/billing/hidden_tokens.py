"""Fields of a request by which the upstream may generate tokens that it does not send. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_CHOICES = frozenset(
    {"allowed_token_ids", "ebnf", "guided_grammar", "logit_bias", "structural_tag", "structured_outputs"}
)
"""Fields that can choose single tokens: by number, or by name in the grammars and tags of xgrammar."""

SWITCHES = frozenset(
    {
        "add_generation_prompt",
        "bad_words",
        "ignore_eos",
        "include_reasoning",
        "min_tokens",
        "reasoning",
        "response_format",
        "separate_reasoning",
        "stream_reasoning",
    }
)
"""Fields whose value decides it. Most requests have neither these nor those of TOKEN_CHOICES."""

_DECIDING = TOKEN_CHOICES | SWITCHES


def may_hide_tokens(fields: Mapping[str, Any]) -> bool:
    """Whether the answer may have tokens that are not sent, by the fields of its request.

    Reasoning can be excluded, or held back until it is complete. Special tokens are skipped in the text: a
    model generates them if it may not stop, if it has to begin its message by itself, or if they are chosen.
    """
    if _DECIDING.isdisjoint(fields):
        return False
    reasoning = fields.get("reasoning") or {}
    return bool(
        fields.get("include_reasoning") is False
        or fields.get("separate_reasoning")
        or fields.get("stream_reasoning") is False
        or reasoning.get("exclude")
        or reasoning.get("summary")
        or any(fields.get(name) for name in TOKEN_CHOICES & fields.keys())
        or (fields.get("response_format") or {}).get("type") == "structural_tag"
        or (_may_not_stop(fields) and fields.get("skip_special_tokens") is not False)
    )


def _may_not_stop(fields: Mapping[str, Any]) -> bool:
    return bool(
        fields.get("ignore_eos")
        or fields.get("min_tokens")
        or fields.get("bad_words")
        or fields.get("add_generation_prompt") is False
    )
