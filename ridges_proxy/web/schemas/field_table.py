"""The table of all fields of requests: which go upstream, which are dropped, and which are refused.

The types of the schemas read the fields that are passed on or read. This table decides about all others, in
each place of a request. `docs/reference/api.md` shows it, and the OpenAPI document is made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError, missing

from ridges_proxy.billing.prompt_fields import RENDERED_FIELDS
from ridges_proxy.web.schemas.problems import MESSAGES, not_accepted

if TYPE_CHECKING:
    from collections.abc import Mapping

Read = Callable[[Any], Any]


class Treatment(Enum):
    """The handling of a field that has a value."""

    COUNTED = "passed on, and counted in the bound of the prompt"
    PASSED = "passed on: they cannot make the prompt larger, and `max_tokens` bounds the answer"
    READ = "read by the proxy"
    DROPPED = "dropped: neither counted nor passed on"
    REFUSED = "refused"


EMPTY_SCHEMA: dict[str, list[object]] = {"enum": [None, "", [], {}]}
"""The values of an unknown field that mean nothing."""


def is_empty(value: object) -> bool:
    """Whether a value is null, an empty string, an empty list or an empty object."""
    return value is None or (isinstance(value, str | list | dict) and not value)


@dataclass(frozen=True)
class Place:
    """The fields of one object in a request, by what happens to them. An empty field is never refused."""

    title: str = ""
    counted: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    """Fields of clients that name a request, or that repeat what an answer had. No engine needs them."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Reasons why fields are refused that clients may expect to work."""
    others: Treatment = Treatment.REFUSED
    """What happens to a field that is not listed: REFUSED, DROPPED, or COUNTED."""

    @property
    def sent(self) -> frozenset[str]:
        """The listed fields that go upstream."""
        return self.counted | self.passed

    def reader(self, name: str) -> Read:
        """The function that reads a field for which a schema has no type: `missing` means dropped."""
        if name in self.dropped or self.others is Treatment.DROPPED:
            return _drop
        if name in self.refused:
            return _refusing(not_accepted(self.refused[name]))
        return _keep if self.others is Treatment.COUNTED else _refuse

    def kept(self, value: dict[str, Any]) -> dict[str, Any]:
        """The object without the fields that are dropped: the same object if there are none."""
        others = value.keys() - self.counted
        gone = {name for name in others if self.reader(name)(value[name]) is missing}
        return {name: each for name, each in value.items() if name not in gone} if gone else value

    def described(self, shape: dict[str, Any]) -> dict[str, Any]:
        """The JSON Schema of an object of this place, from that of the fields that have a type."""
        dropped = dict.fromkeys(sorted(self.dropped), _DROPPED_SCHEMA)
        others = EMPTY_SCHEMA if self.others is Treatment.REFUSED else True
        return {
            **shape,
            "properties": {**shape["properties"], **dropped},
            "additionalProperties": others,
        }


_DROPPED_SCHEMA = {"description": f"Any value. It is {Treatment.DROPPED.value}."}


def _drop(_value: object) -> Any:  # noqa: ANN401 - marshmallow's
    return missing


def _keep(value: Any) -> Any:  # noqa: ANN401 - any JSON
    return missing if is_empty(value) else value


def _refusing(message: str) -> Read:
    def refuse(value: object) -> Any:  # noqa: ANN401 - marshmallow's
        if is_empty(value):
            return missing
        raise ValidationError(message)

    return refuse


_refuse = _refusing(MESSAGES["extra_forbidden"])


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _because(*groups: tuple[str, str]) -> dict[str, str]:
    """The reason of each name. A group is a reason, and the names that it holds for."""
    return {name: reason for reason, names in groups for name in names.split()}


CLIENT_NOTES = _names(
    "cache_control metadata provider_metadata providerMetadata provider_options providerOptions"
)
"""Notes that clients attach anywhere: for the caches of other providers, and for their own use."""

ANSWER_NOTES = _names("provider_specific_fields extra_content signature thought_signature")
"""What litellm, Google's API and others attach to an answer, and expect back."""

REQUEST = Place(
    "The request of `/v1/chat/completions` and `/v1/estimate`",
    counted=RENDERED_FIELDS | {"messages"},
    passed=_names(
        """
        temperature top_p top_k min_p frequency_penalty presence_penalty repetition_penalty
        logit_bias logprobs top_logprobs seed min_tokens ignore_eos
        stop stop_regex stop_token_ids no_stop_trim include_stop_str_in_output
        skip_special_tokens spaces_between_special_tokens allowed_token_ids bad_words
        parallel_tool_calls guided_decoding_backend add_generation_prompt continue_final_message
        include_reasoning separate_reasoning stream_reasoning
        user safety_identifier service_tier modalities
        """
    ),
    read=_names("run_id model n max_tokens max_completion_tokens stream stream_options usage"),
    dropped=CLIENT_NOTES
    | _names(
        """
        store prompt_cache_key prompt_cache_retention prompt_cache_options
        litellm_metadata litellm_call_id litellm_trace_id litellm_session_id
        request_id session_id trace trace_id tags
        """
    ),
    refused=_because(
        ("it can replace the prompt, which then has no bound", "chat_template input_ids prompt_embeds"),
        ("it can enlarge the prompt without a bound", "documents mm_processor_kwargs"),
        ("it can make tokens beyond max_tokens", "best_of use_beam_search prediction"),
        ("send tools, and tool_choice", "functions function_call"),
        ("it can lead to another model, endpoint or price", "models route provider plugins lora_path"),
        ("the upstream has no such service", "audio web_search_options moderation"),
        ("its content belongs into the request itself", "extra_body"),
    ),
)

STREAM_OPTIONS = Place(
    "`stream_options`", read=_names("include_usage include_obfuscation continuous_usage_stats")
)

USAGE = Place("`usage`", read=_names("include"))

TEMPLATE_SWITCHES = Place(
    "`chat_template_kwargs`",
    counted=_names(
        """
        add_thinking clear_thinking enable_thinking model_identity preserve_thinking preserved_thinking
        reasoning reasoning_effort thinking thinking_budget
        """
    ),
    refused=_because(("it can replace the prompt, which then has no bound", "chat_template")),
)
"""Switches of the models' templates. Other names can replace what the template writes, and then no bound of
the prompt holds."""

REASONING = Place("`reasoning`", counted=_names("effort enabled exclude max_tokens summary"))

THINKING = Place("`thinking`", counted=_names("type budget_tokens clear_thinking"))

MESSAGE = Place(
    "A message of the user, the system or a tool",
    counted=_names("role content name tool_calls tool_call_id refusal reasoning reasoning_content"),
    dropped=CLIENT_NOTES
    | ANSWER_NOTES
    | _names(
        """
        parsed annotations citations thinking_blocks reasoning_details reasoning_items reasoning_signature
        reasoning_opaque encrypted_content id index object status finish_reason stop_reason matched_stop
        logprobs token_ids prompt_token_ids usage usage_metadata response_metadata additional_kwargs
        invalid_tool_calls model agent messageId traceId sent_from send_to cause_by
        created created_at createdAt timestamp extra opts
        """
    ),
    refused=_because(
        ("it would have to be fetched from the answer of another upstream", "audio images"),
        ("send tool_calls", "function_call"),
        ("send continue_final_message in the request", "prefix partial"),
        ("send tools in the request", "tools"),
        ("send it as reasoning or reasoning_content", "thinking"),
    ),
)

ECHOES = _names("audio function_call images thinking")
"""What other upstreams put into an answer. Engines that read it want it in another form, or not at all."""


def _of_assistant(place: Place, title: str) -> Place:
    """The place in a message of the assistant, which a client sends back as it came.

    A client cannot change its history, so what engines do not read there is dropped.
    """
    refused = {name: why for name, why in place.refused.items() if name not in ECHOES}
    return replace(place, title=title, dropped=place.dropped | ECHOES, refused=refused)


ASSISTANT_MESSAGE = _of_assistant(MESSAGE, "A message of the assistant")

PART_TYPES = Place("The `type` of a part", counted=_names("text refusal image_url"))

THOUGHTS = _names("thinking redacted_thinking reasoning")
"""Types of parts in which other APIs send the reasoning of an answer."""

ASSISTANT_PART_TYPES = replace(
    PART_TYPES, title="The `type` of a part of the assistant's message", dropped=THOUGHTS
)

PART = Place(
    "A part of a message's content",
    counted=_names("type text refusal image_url"),
    dropped=CLIENT_NOTES
    | ANSWER_NOTES
    | _names("annotations citations logprobs id index extras phase parsed prompt_cache_breakpoint"),
)

IMAGE_URL = Place(
    "`image_url` of a part",
    counted=_names("url detail"),
    dropped=CLIENT_NOTES | {"format"},
    refused=_because(
        ("it can enlarge the image", "min_dynamic_patch max_dynamic_patch min_pixels max_pixels")
    ),
)

TOOL_CALL = Place(
    "A tool call of a message",
    counted=_names("id type function"),
    dropped=CLIENT_NOTES | ANSWER_NOTES | {"index"},
    others=Treatment.COUNTED,
)

CALLED_FUNCTION = Place(
    "`function` of a tool call",
    counted=_names("name arguments"),
    dropped=CLIENT_NOTES | ANSWER_NOTES | {"parsed_arguments", "parsed"},
    others=Treatment.COUNTED,
)

TOOL = Place(
    "A tool, and `tool_choice`",
    counted=_names("type function name"),
    dropped=CLIENT_NOTES,
    others=Treatment.COUNTED,
)

TOOL_FUNCTION = Place(
    "`function` of a tool",
    counted=_names("name description parameters strict"),
    dropped=CLIENT_NOTES,
    others=Treatment.COUNTED,
)

EMBEDDINGS = Place(
    "The request of `/v1/embeddings`",
    read=_names("run_id model input encoding_format user usage"),
    dropped=REQUEST.dropped,
    refused=_because(("the model alone decides the length of the vectors", "dimensions")),
)

AGENTS = Place(
    "A request on `/agents`",
    counted=_names("messages"),
    passed=_names("temperature"),
    read=_names("run_id model input"),
    others=Treatment.DROPPED,
)

AGENT_MESSAGE = Place("A message on `/agents`", counted=_names("role content"), others=Treatment.DROPPED)

LATER = Place(
    "A request on `/api` with `evaluation_run_id`",
    counted=_names("messages tools tool_mode"),
    passed=_names("temperature"),
    read=_names("evaluation_run_id model input"),
    others=Treatment.DROPPED,
)

LATER_TOOL = Place(
    "A tool of such a request", counted=_names("name description parameters"), others=Treatment.DROPPED
)

LATER_PARAMETER = Place(
    "A parameter of such a tool",
    counted=_names("name type description required"),
    others=Treatment.DROPPED,
)

RESPONSE = Place(
    "The request of `/v1/responses`",
    counted=_names("input instructions tools tool_choice text reasoning"),
    passed=_names("parallel_tool_calls temperature top_p top_logprobs user safety_identifier"),
    read=_names(
        "run_id model stream max_output_tokens service_tier include metadata truncation store background"
        " usage"
    ),
    dropped=(CLIENT_NOTES - {"metadata"})
    | _names(
        """
        client_metadata max_tool_calls stream_options
        prompt_cache_key prompt_cache_options prompt_cache_retention
        """
    ),
    refused=_because(
        (
            "responses are not stored here, so send the complete conversation as input",
            "conversation previous_response_id",
        ),
        ("prompts are not stored here, so send instructions and input", "prompt"),
    ),
)

RESPONSE_ITEM = Place(
    "An item of `input`",
    counted=_names("type role content call_id name namespace arguments output summary"),
    dropped=CLIENT_NOTES
    | ANSWER_NOTES
    | _names("id status phase caller async parsed_arguments encrypted_content"),
)

RESPONSE_ASSISTANT_MESSAGE = _of_assistant(RESPONSE_ITEM, "A message of the assistant in `input`")

RESPONSE_PART_TYPES = Place(
    "The `type` of a part of such an item", counted=_names("input_text output_text text refusal input_image")
)

RESPONSE_ASSISTANT_PART_TYPES = replace(
    RESPONSE_PART_TYPES,
    title="The `type` of a part of the assistant's message in `input`",
    dropped=THOUGHTS | {"reasoning_text", "summary_text"},
)

RESPONSE_PART = Place(
    "A part of such an item",
    counted=_names("type text refusal image_url detail"),
    dropped=CLIENT_NOTES | ANSWER_NOTES | _names("annotations logprobs parsed prompt_cache_breakpoint"),
)

RESPONSE_TOOL = Place(
    "A tool on `/v1/responses`",
    counted=_names("type name description parameters strict tools"),
    dropped=CLIENT_NOTES | {"defer_loading"},
)

PLACES = (
    *(REQUEST, STREAM_OPTIONS, USAGE, TEMPLATE_SWITCHES, REASONING, THINKING),
    *(MESSAGE, ASSISTANT_MESSAGE, PART_TYPES, ASSISTANT_PART_TYPES),
    *(PART, IMAGE_URL, TOOL_CALL, CALLED_FUNCTION, TOOL, TOOL_FUNCTION),
    *(RESPONSE, RESPONSE_ITEM, RESPONSE_ASSISTANT_MESSAGE),
    *(RESPONSE_PART_TYPES, RESPONSE_ASSISTANT_PART_TYPES, RESPONSE_PART, RESPONSE_TOOL),
    *(EMBEDDINGS, AGENTS, AGENT_MESSAGE, LATER, LATER_TOOL, LATER_PARAMETER),
)
"""All places, in the order of the documentation."""
