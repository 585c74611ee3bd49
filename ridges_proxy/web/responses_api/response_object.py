"""The Response object of OpenAI's API, which whole answers and most events of a stream have. Pure."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

from ridges_proxy.billing.compact_json import compact_json
from ridges_proxy.billing.rendered_bounds import NESTED_TOO_DEEPLY
from ridges_proxy.errors import InvalidRequestError, Problem
from ridges_proxy.upstream.usage import parse_usage
from ridges_proxy.web.responses_api.tools import FunctionName, functions_of
from ridges_proxy.web.schemas.response_tools import HOSTED_TOOLS
from ridges_proxy.web.schemas.usage_option import asks_for_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPLETED, INCOMPLETE, FAILED, IN_PROGRESS = "completed", "incomplete", "failed", "in_progress"

INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Reasons of an incomplete response, by the `finish_reason` of the chat."""

ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
"""Fields of the request that the response repeats, with the values that stand for an absent one."""


@dataclass(frozen=True, slots=True)
class ResponseForm:
    """The parts of a response that are known from its request."""

    id: str
    created_at: int
    """Seconds since 1970."""
    echo: Mapping[str, Any]
    """The fields that are the same in each state of the response; those that may be large, as JSON."""
    names: Mapping[str, FunctionName]
    """The functions of namespaces, by the names that the model sees."""
    shows_summary: bool = False
    """Whether reasoning is shown as a summary, because the client asked for one."""
    shows_cost: bool = False
    """Whether the usage has the cost of the call. The chat has it then, too."""

    @classmethod
    def of(cls, request: Mapping[str, Any], model: str) -> Self:
        """The form of the response to a validated request."""
        named = functions_of(request.get("tools") or [])
        reasoning = request.get("reasoning") or {}
        summary = reasoning.get("summary") or reasoning.get("generate_summary")
        return cls(
            uuid.uuid4().hex,
            int(time.time()),
            _echo(request, model),
            {joined: name for joined, (name, _) in named.items() if name.namespace},
            summary not in {None, "none"},
            asks_for_cost(request),
        )

    def response(
        self,
        status: str,
        output: list[dict[str, Any]],
        *,
        reason: str | None = None,
        usage: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The response in a state. `reason` says why it is incomplete."""
        return {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": output,
            "usage": usage,
            **self.echo,
        }

    def usage(self, reported: object) -> dict[str, Any] | None:
        """The usage of a chat in the form of a response. None if it is missing or invalid."""
        usage = parse_usage(reported)
        if usage is None or not isinstance(reported, dict):
            return None
        details = reported.get("completion_tokens_details")
        reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else 0
        cost = {"cost": reported["cost"]} if self.shows_cost and "cost" in reported else {}
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning if type(reasoning) is int else 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            **cost,
        }

    def item_id(self, prefix: str, index: int) -> str:
        """The id of an item of the output."""
        return f"{prefix}{self.id}{index:x}"


def _echo(request: Mapping[str, Any], model: str) -> dict[str, Any]:
    reasoning, text = request.get("reasoning") or {}, request.get("text") or {}
    given = {
        name: default if request.get(name) is None else request[name] for name, default in ECHOED.items()
    }
    given["tools"] = [tool for tool in given["tools"] if tool["type"] not in HOSTED_TOOLS]
    given |= {
        "background": False,
        "max_tool_calls": None,
        "model": model,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": False,
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity")},
        "truncation": "disabled",
    }
    return {name: _serialized(name, value) for name, value in given.items()}


def _serialized(name: str, value: object) -> orjson.Fragment:
    try:
        return orjson.Fragment(compact_json(value))
    except orjson.JSONEncodeError:  # orjson reads 1,024 levels, but writes 254
        raise InvalidRequestError([Problem(["body", name], NESTED_TOO_DEEPLY, "value_error")]) from None
