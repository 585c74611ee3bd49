"""Schema of `POST /v1/responses`. A field that is not listed may only be null or empty."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat import MAX_TOKENS
from ridges_proxy.web.schemas.containers import List, ObjectOf, StringOr
from ridges_proxy.web.schemas.problems import MAX_FIELDS, MAX_TEMPERATURE, RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.response_items import InputItems
from ridges_proxy.web.schemas.response_tools import MAX_TOOLS, ResponseTool, ToolChoice
from ridges_proxy.web.schemas.response_values import (
    NOT_ACCEPTED,
    Inert,
    ListedObject,
    Refused,
    is_empty,
    tagged,
)
from ridges_proxy.web.schemas.values import (
    AnyObject,
    Boolean,
    Choice,
    Constant,
    Integer,
    Name,
    Number,
    RunId,
    String,
    Text,
    Value,
)

STATELESS = "Responses are not stored here: send the complete conversation as input"
FORMAT_MESSAGE = "Input should be a format of the type text, json_object or json_schema"


class Format(Value):
    """The format of the answer's text."""

    def __init__(self) -> None:
        self._kinds = {
            "text": ListedObject({"type": Choice("text", required=True)}),
            "json_object": ListedObject({"type": Choice("json_object", required=True)}),
            "json_schema": ListedObject(
                {
                    "type": Choice("json_schema", required=True),
                    "name": Text(64, required=True),
                    "schema": AnyObject(required=True),
                    "description": String(),
                    "strict": Boolean(),
                }
            ),
        }
        super().__init__({"anyOf": [each.json_schema for each in self._kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A format."""
        return tagged(self._kinds, value, FORMAT_MESSAGE)


class ResponsesSchema(RequestSchema):
    """`POST /v1/responses`. As in OpenAI's API, null counts as absent."""

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    model = Name()
    stream = Boolean()

    # They become messages, tools and limits of a chat, and are counted there.
    input = StringOr(String(), InputItems(), required=True)
    instructions = String()
    tools = List(ResponseTool(), 0, MAX_TOOLS)
    tool_choice = StringOr(Choice("auto", "none", "required"), ToolChoice())
    parallel_tool_calls = Boolean()
    text = ListedObject({"format": Format(), "verbosity": Text(32)})
    reasoning = ListedObject({"effort": Text(32), "summary": Text(32), "generate_summary": Text(32)})
    max_output_tokens = Integer(1, MAX_TOKENS)
    temperature = Number(0, MAX_TEMPERATURE)
    top_p = Number(0, 1)
    top_logprobs = Integer(0, 20)
    user = Text(256)
    safety_identifier = Text(256)
    prompt_cache_key = Text(256)
    service_tier = Choice("auto", "default")

    # They are shown in the answer.
    include = List(Text(64), 0, 32)
    metadata = ObjectOf(Text(512), 16)
    truncation = Choice("auto", "disabled")

    # Nothing is stored, whatever `store` is.
    store = Boolean()
    background = Constant(False)

    # Clients send them at their defaults.
    client_metadata = Inert()
    max_tool_calls = Inert()
    prompt_cache_options = Inert()
    prompt_cache_retention = Inert()
    stream_options = ListedObject({"include_obfuscation": Boolean()})

    # They name what was stored before.
    conversation = Refused(STATELESS)
    previous_response_id = Refused(STATELESS)
    prompt = Refused("Stored prompts are not available here: send instructions and input")

    def load(self, data: Any, **options: Any) -> Any:  # noqa: ANN401 - marshmallow's
        """The validated fields. Fields that are not listed are dropped if they are null or empty."""
        if options or not isinstance(data, dict) or len(data) > MAX_FIELDS:
            return super().load(data, **options)
        errors: dict[str, Any] = {
            name: [NOT_ACCEPTED]
            for name, value in data.items()
            if name not in self._names and not is_empty(value)
        }
        try:
            loaded = super().load({name: value for name, value in data.items() if name in self._names})
        except ValidationError as error:
            raise ValidationError({**error.messages_dict, **errors}) from None
        if errors:
            raise ValidationError(errors)
        return loaded
