"""Fields of a request by which the upstream may generate tokens that it does not send. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def may_hide_tokens(fields: Mapping[str, Any]) -> bool:
    """Whether the answer may have tokens that are not sent, by the fields of its request.

    Reasoning can be excluded, or held back until it is complete. Special tokens are skipped in the text: a
    model generates them if it may not stop, or if their probability was raised.
    """
    reasoning = fields.get("reasoning") or {}
    skips_special_tokens = fields.get("skip_special_tokens") is not False
    return (
        fields.get("include_reasoning") is False
        or bool(fields.get("separate_reasoning"))
        or bool(reasoning.get("exclude"))
        or bool(reasoning.get("summary"))
        or bool(fields.get("logit_bias"))
        or (bool(fields.get("ignore_eos")) and skips_special_tokens)
    )
