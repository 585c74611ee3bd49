"""Schema of `POST /v1/chat/completions`. A field that is not listed is refused by name.

A field is listed if it cannot change the cost, or if the hold covers the change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.chat_request import CHUNK_USAGE_OPTION, ChatRequest
from ridges_proxy.web.schemas.chat_messages import Message, MessageList
from ridges_proxy.web.schemas.containers import List, Object, ObjectOf, StringOr
from ridges_proxy.web.schemas.problems import MAX_TEMPERATURE, RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.tools import Tool
from ridges_proxy.web.schemas.values import (
    MAX_SCALAR_CHARACTERS,
    AnyObject,
    Boolean,
    Choice,
    Constant,
    Integer,
    Name,
    Number,
    RunId,
    Scalar,
    Switch,
    Text,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.exact_counts import TokenCounter

MAX_TOKENS = 1_000_000
"""Above the longest answer of every model. A larger number is a mistake or an attack."""

MAX_CHOICES = 128
"""The limit of OpenAI's API."""

TEMPLATE_SWITCHES = frozenset(
    {
        "add_thinking",
        "clear_thinking",
        "enable_thinking",
        "model_identity",
        "preserve_thinking",
        "preserved_thinking",
        "reasoning",
        "reasoning_effort",
        "thinking",
        "thinking_budget",
    }
)
"""Switches of the models' templates: the names allowed in `chat_template_kwargs`. Other names can replace the
template itself (`chat_template`), and then no bound of the prompt holds."""

REASONING_SWITCHES = frozenset({"effort", "enabled", "exclude", "max_tokens", "summary"})
THINKING_SWITCHES = frozenset({"type", "budget_tokens", "clear_thinking"})
STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation", "continuous_usage_stats"})

MAX_SEED = (1 << 63) - 1


def _object_of(names: frozenset[str], value: Value) -> Object:
    """An object of these names, with values of one type."""
    return Object(dict.fromkeys(sorted(names), value))


def _stop() -> StringOr:
    """Text that ends the answer, or a list of such texts."""
    text = Text(1024)
    return StringOr(text, List(text, 1, 16))


class ChatSchema(RequestSchema):
    """`POST /v1/chat/completions` and `POST /v1/estimate`. As in OpenAI's API, null counts as absent."""

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    messages = MessageList(Message(), required=True)
    model = Name()

    # They multiply or bound the cost, or the proxy itself acts on them.
    n = Integer(1, MAX_CHOICES)
    max_tokens = Integer(1, MAX_TOKENS)
    max_completion_tokens = Integer(1, MAX_TOKENS)
    stream = Boolean()
    stream_options = _object_of(STREAM_OPTIONS, Switch())

    # They become a part of the prompt, and its bound counts them.
    tools = List(Tool(), 1, 512)
    tool_choice = StringOr(Text(MAX_SCALAR_CHARACTERS), Tool())
    response_format = AnyObject()
    chat_template_kwargs = _object_of(TEMPLATE_SWITCHES, Scalar())

    # They control sampling.
    temperature = Number(0, MAX_TEMPERATURE)
    top_p = Number(0, 1)
    top_k = Integer(-1, MAX_TOKENS)
    min_p = Number(0, 1)
    frequency_penalty = Number(-2, 2)
    presence_penalty = Number(-2, 2)
    repetition_penalty = Number(0, 10)
    logit_bias = ObjectOf(Number(-100, 100), 1024)
    logprobs = Boolean()
    top_logprobs = Integer(0, 20)
    seed = Integer(-MAX_SEED - 1, MAX_SEED)
    stop = _stop()
    stop_token_ids = List(Integer(0, 1 << 31), 1, 128)
    min_tokens = Integer(0, MAX_TOKENS)
    ignore_eos = Boolean()
    skip_special_tokens = Boolean()
    include_stop_str_in_output = Boolean()
    parallel_tool_calls = Boolean()

    # They control reasoning, which max_tokens bounds.
    reasoning_effort = Text(32)
    reasoning = _object_of(REASONING_SWITCHES, Scalar())
    thinking = _object_of(THINKING_SWITCHES, Scalar())
    include_reasoning = Boolean()
    separate_reasoning = Boolean()
    verbosity = Text(32)

    # Official clients set them. Only the values that cost nothing are allowed.
    user = Text(256)
    safety_identifier = Text(256)
    prompt_cache_key = Text(256)
    service_tier = Choice("auto", "default")
    store = Constant(False)
    modalities = Constant(["text"])


_PROXY_FIELDS = frozenset(
    {
        "run_id",
        "messages",
        "model",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "stream",
        "stream_options",
    }
)
"""Fields that the proxy handles itself. All others go upstream unchanged."""


def chat_from(
    fields: Mapping[str, Any], default_max_tokens: int, counter: TokenCounter | None = None
) -> ChatRequest:
    """The chat request of validated fields. If both limits are given, the smaller one holds."""
    limits = [fields.get(name) for name in ("max_tokens", "max_completion_tokens")]
    given = [limit for limit in limits if limit is not None]
    stream_options = fields.get("stream_options") or {}
    chat = ChatRequest.of(
        fields["messages"],
        {name: value for name, value in fields.items() if name not in _PROXY_FIELDS and value is not None},
        min(given, default=default_max_tokens),
        choices=fields.get("n") or 1,
        shows_usage=bool(stream_options.get("include_usage")),
        counter=counter,
    )
    return replace(chat, shows_chunk_usage=chat.shows_usage and bool(stream_options.get(CHUNK_USAGE_OPTION)))
