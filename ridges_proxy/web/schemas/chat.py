"""Schema of `POST /v1/chat/completions`: the types of the fields that are passed on or read.

A field is one of them if it cannot change the cost, or if the hold covers the change. The table of fields
(field_table.py) decides about all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ridges_proxy.billing.chat_request import CHUNK_USAGE_OPTION, ChatRequest
from ridges_proxy.web.schemas.chat_messages import Message, MessageList
from ridges_proxy.web.schemas.containers import List, Object, ObjectOf, StringOr
from ridges_proxy.web.schemas.field_table import (
    REASONING,
    REQUEST,
    STREAM_OPTIONS,
    TEMPLATE_SWITCHES,
    THINKING,
    Place,
)
from ridges_proxy.web.schemas.problems import MAX_TEMPERATURE, RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.tools import MAX_TOOLS, Tool
from ridges_proxy.web.schemas.usage_option import asks_for_cost, usage_option
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
    String,
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

MAX_SEED = (1 << 63) - 1


MAX_TEXT_CHARACTERS = 1024
MAX_TEXTS = 16
MAX_TOKEN_IDS = 1024
MAX_CHOICES_OF_TEXT = 1024


def _object_of(place: Place, value: Value) -> Object:
    """An object of a place, with values of one type."""
    return Object(dict.fromkeys(sorted(place.sent | place.read), value), place)


def _texts() -> StringOr:
    """A text, or a list of texts."""
    text = Text(MAX_TEXT_CHARACTERS)
    return StringOr(text, List(text, 0, MAX_TEXTS))


def _token_ids(max_items: int) -> List:
    return List(Integer(0, 1 << 31), 0, max_items)


def _json_schema() -> StringOr:
    """A JSON Schema, as an object or as a text."""
    return StringOr(String(), AnyObject())


class ChatSchema(RequestSchema):
    """`POST /v1/chat/completions` and `POST /v1/estimate`.

    As in OpenAI's API, null counts as absent. An empty list or object does, too.
    """

    place: ClassVar[Place] = REQUEST

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    messages = MessageList(Message(), required=True)
    model = Name()

    # They multiply or bound the cost, or the proxy itself acts on them.
    n = Integer(1, MAX_CHOICES)
    max_tokens = Integer(1, MAX_TOKENS)
    max_completion_tokens = Integer(1, MAX_TOKENS)
    stream = Boolean()
    stream_options = _object_of(STREAM_OPTIONS, Switch())
    usage = usage_option()

    # They become a part of the prompt, and its bound counts them.
    tools = List(Tool(), 0, MAX_TOOLS)
    tool_choice = StringOr(Text(MAX_SCALAR_CHARACTERS), Tool())
    response_format = AnyObject()
    chat_template_kwargs = _object_of(TEMPLATE_SWITCHES, Scalar())

    # They constrain the answer. The bound of the prompt counts them, too: an engine may write them into it.
    structured_outputs = AnyObject()
    structural_tag = _json_schema()
    json_schema = _json_schema()
    guided_json = _json_schema()
    guided_regex = String()
    guided_choice = List(String(), 0, MAX_CHOICES_OF_TEXT)
    guided_grammar = String()
    guided_whitespace_pattern = String()
    regex = String()
    ebnf = String()
    guided_decoding_backend = Text(MAX_SCALAR_CHARACTERS)

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
    stop = _texts()
    stop_regex = _texts()
    no_stop_trim = Boolean()
    stop_token_ids = _token_ids(128)
    allowed_token_ids = _token_ids(MAX_TOKEN_IDS)
    bad_words = List(Text(MAX_TEXT_CHARACTERS), 0, MAX_TEXTS)
    min_tokens = Integer(0, MAX_TOKENS)
    ignore_eos = Boolean()
    skip_special_tokens = Boolean()
    spaces_between_special_tokens = Boolean()
    include_stop_str_in_output = Boolean()
    parallel_tool_calls = Boolean()

    # They continue the last message. They take markers from the prompt, and add none.
    add_generation_prompt = Boolean()
    continue_final_message = Boolean()

    # They control reasoning, which max_tokens bounds. The bound of the prompt counts their texts.
    reasoning_effort = Text(32)
    reasoning = _object_of(REASONING, Scalar())
    thinking = _object_of(THINKING, Scalar())
    include_reasoning = Boolean()
    separate_reasoning = Boolean()
    stream_reasoning = Boolean()
    verbosity = Text(32)

    # Official clients set them. Only the values that cost nothing are allowed.
    user = Text(256)
    safety_identifier = Text(256)
    service_tier = Choice("auto", "default")
    modalities = Constant(["text"])


EMPTY: tuple[list[object], dict[str, object]] = ([], {})
"""Values that count as absent, beside null."""

_HELD_BACK = REQUEST.read | {"messages"}
"""Fields that do not go upstream as they are: the proxy handles them itself."""

_NEED_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
"""Fields that engines refuse in a request without tools."""


def chat_from(
    fields: Mapping[str, Any], default_max_tokens: int, counter: TokenCounter | None = None
) -> ChatRequest:
    """The chat request of validated fields. If both limits are given, the smaller one holds."""
    limits = [fields.get(name) for name in ("max_tokens", "max_completion_tokens")]
    given = [limit for limit in limits if limit is not None]
    stream_options = fields.get("stream_options") or {}
    shows_cost = asks_for_cost(fields)
    shows_usage = shows_cost or bool(stream_options.get("include_usage"))
    return ChatRequest.of(
        fields["messages"],
        _sent(fields),
        min(given, default=default_max_tokens),
        choices=fields.get("n") or 1,
        shows_usage=shows_usage,
        shows_chunk_usage=shows_usage and bool(stream_options.get(CHUNK_USAGE_OPTION)),
        shows_cost=shows_cost,
        counter=counter,
    )


def _sent(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields beside the messages that go upstream."""
    held_back = _HELD_BACK if fields.get("tools") else _HELD_BACK | _NEED_TOOLS
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value not in EMPTY and name not in held_back
    }
