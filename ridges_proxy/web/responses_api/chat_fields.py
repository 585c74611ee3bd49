"""A Responses request as the fields of a chat completion. Pure.

The chat's schema validates these fields again: there is only one way to count and to bound a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.web.responses_api.history import messages_of
from ridges_proxy.web.responses_api.tools import tool_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

UNCHANGED = (
    "run_id",
    "model",
    "stream",
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "service_tier",
    "usage",
)
"""Fields that have the same name and meaning in both APIs."""

LOGPROBS = "message.output_text.logprobs"
"""The value of `include` that asks for log probabilities."""


def chat_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a chat completion for a validated Responses request."""
    text, reasoning = request.get("text") or {}, request.get("reasoning") or {}
    fields = {
        **{name: request.get(name) for name in UNCHANGED},
        "messages": messages_of(request["input"], request.get("instructions")),
        "max_completion_tokens": request.get("max_output_tokens"),
        "response_format": _response_format(text.get("format")),
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
        "stream_options": {"include_usage": True},
        **_logprobs(request),
        **tool_fields(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _response_format(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None or given["type"] == "text":
        return None
    if given["type"] == "json_object":
        return {"type": "json_object"}
    names = ("name", "description", "schema", "strict")
    return {
        "type": "json_schema",
        "json_schema": {name: given[name] for name in names if given.get(name) is not None},
    }


def _logprobs(request: Mapping[str, Any]) -> dict[str, Any]:
    count = request.get("top_logprobs")
    if not count and LOGPROBS not in (request.get("include") or []):
        return {}
    return {"logprobs": True, "top_logprobs": count or None}
