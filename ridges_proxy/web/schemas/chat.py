"""What `POST /v1/chat/completions` may carry. Deny by default: a field that nobody listed is refused by name.

A field is listed if it cannot change the bill, or if the hold counts what it can change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.web.schemas.chat_messages import read_messages
from ridges_proxy.web.schemas.fields import (
    MAX_TEMPERATURE,
    MESSAGES,
    name_text,
    optional,
    required,
    run_field,
)
from ridges_proxy.web.schemas.narrow_schema import NarrowSchema
from ridges_proxy.web.schemas.readers import (
    boolean,
    choice,
    constant,
    integer,
    integers,
    json_list,
    json_object,
    number,
    numbers_by_name,
    scalars,
    switches,
    text,
    text_or,
    texts_or_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKENS = 1_000_000
"""No model answers with more; a larger number is a mistake, or a try."""

MAX_CHOICES = 128
"""OpenAI's own."""

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
"""What `chat_template_kwargs` may name: the switches of the models' templates. Other names can replace the
template itself (`chat_template`), and then no bound holds."""

SEED_BITS = 63


class ChatSchema(NarrowSchema):
    """`POST /v1/chat/completions` and `POST /v1/estimate`. Null is as good as absent, as OpenAI has it."""

    error_messages = {"unknown": MESSAGES["extra_forbidden"]}  # noqa: RUF012 - marshmallow's way

    run_id = run_field()
    messages = required(read_messages)
    model = optional(name_text)

    # What multiplies or bounds the bill, and what the proxy itself decides.
    n = optional(integer(1, MAX_CHOICES))
    max_tokens = optional(integer(1, MAX_TOKENS))
    max_completion_tokens = optional(integer(1, MAX_TOKENS))
    stream = optional(boolean)
    stream_options = optional(switches(frozenset({"include_usage", "include_obfuscation"})))

    # What stands in the prompt, and is counted there.
    tools = optional(json_list(512))
    tool_choice = optional(text_or(json_object))
    response_format = optional(json_object)
    chat_template_kwargs = optional(scalars(TEMPLATE_SWITCHES))

    # How the answer is chosen: passed on.
    temperature = optional(number(0, MAX_TEMPERATURE))
    top_p = optional(number(0, 1))
    top_k = optional(integer(-1, MAX_TOKENS))
    min_p = optional(number(0, 1))
    frequency_penalty = optional(number(-2, 2))
    presence_penalty = optional(number(-2, 2))
    repetition_penalty = optional(number(0, 10))
    logit_bias = optional(numbers_by_name(1024, -100, 100))
    logprobs = optional(boolean)
    top_logprobs = optional(integer(0, 20))
    seed = optional(integer(-(1 << SEED_BITS), (1 << SEED_BITS) - 1))
    stop = optional(texts_or_text(16, 1024))
    stop_token_ids = optional(integers(128, 0, 1 << 31))
    min_tokens = optional(integer(0, MAX_TOKENS))
    ignore_eos = optional(boolean)
    skip_special_tokens = optional(boolean)
    include_stop_str_in_output = optional(boolean)
    parallel_tool_calls = optional(boolean)

    # Whether and how the model reasons: within max_tokens.
    reasoning_effort = optional(text(32))
    reasoning = optional(scalars(frozenset({"effort", "enabled", "exclude", "max_tokens", "summary"})))
    thinking = optional(scalars(frozenset({"type", "budget_tokens", "clear_thinking"})))
    include_reasoning = optional(boolean)
    separate_reasoning = optional(boolean)
    verbosity = optional(text(32))

    # What official clients may set, in the values that cost nothing.
    user = optional(text(256))
    safety_identifier = optional(text(256))
    prompt_cache_key = optional(text(256))
    service_tier = optional(choice("auto", "default"))
    store = optional(constant(False))
    modalities = optional(constant(["text"]))


_OURS = frozenset(
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
"""What does not go upstream as it came."""


def chat_from(fields: Mapping[str, Any], default_max_tokens: int) -> ChatRequest:
    """The chat that validated fields ask for; of two limits the smaller one holds."""
    limits = [fields.get(name) for name in ("max_tokens", "max_completion_tokens")]
    named = [limit for limit in limits if limit is not None]
    stream_options = fields.get("stream_options") or {}
    return ChatRequest.of(
        fields["messages"],
        {name: value for name, value in fields.items() if name not in _OURS and value is not None},
        min(named, default=default_max_tokens),
        choices=fields.get("n") or 1,
        shows_usage=bool(stream_options.get("include_usage")),
    )
