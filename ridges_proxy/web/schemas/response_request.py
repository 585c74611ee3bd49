"""Schema of `POST /v1/responses`. The table of fields decides about all fields that are not listed here."""

from __future__ import annotations

from typing import Any

from ridges_proxy.web.schemas.chat import MAX_TOKENS
from ridges_proxy.web.schemas.chat_messages import MessageObject, tagged
from ridges_proxy.web.schemas.containers import List, Object, ObjectOf, StringOr
from ridges_proxy.web.schemas.field_table import RESPONSE, Place
from ridges_proxy.web.schemas.problems import MAX_TEMPERATURE, RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.response_items import InputItems
from ridges_proxy.web.schemas.response_tools import ResponseTool, ToolChoice
from ridges_proxy.web.schemas.tools import MAX_TOOLS
from ridges_proxy.web.schemas.usage_option import usage_option
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

FORMAT = Place()
FORMAT_MESSAGE = "Input should be a format of the type text, json_object or json_schema"


class Format(Value):
    """The format of the answer's text."""

    def __init__(self) -> None:
        self._kinds = {
            "text": MessageObject({"type": Choice("text", required=True)}, FORMAT),
            "json_object": MessageObject({"type": Choice("json_object", required=True)}, FORMAT),
            "json_schema": MessageObject(
                {
                    "type": Choice("json_schema", required=True),
                    "name": Text(64, required=True),
                    "schema": AnyObject(required=True),
                    "description": String(),
                    "strict": Boolean(),
                },
                FORMAT,
            ),
        }
        super().__init__({"anyOf": [each.json_schema for each in self._kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A format."""
        return tagged(self._kinds, value, FORMAT_MESSAGE)


class ResponsesSchema(RequestSchema):
    """`POST /v1/responses`. As in OpenAI's API, null counts as absent."""

    place = RESPONSE

    run_id = RunId(required=True, error_messages=RUN_MISSING)
    model = Name()
    stream = Boolean()

    # They become messages, tools and limits of a chat, and are counted there.
    input = StringOr(String(), InputItems(), required=True)
    instructions = String()
    tools = List(ResponseTool(), 0, MAX_TOOLS)
    tool_choice = StringOr(Choice("auto", "none", "required"), ToolChoice())
    parallel_tool_calls = Boolean()
    text = Object({"format": Format(), "verbosity": Text(32)}, Place())
    reasoning = Object(dict.fromkeys(("effort", "summary", "generate_summary"), Text(32)), Place())
    max_output_tokens = Integer(1, MAX_TOKENS)
    temperature = Number(0, MAX_TEMPERATURE)
    top_p = Number(0, 1)
    top_logprobs = Integer(0, 20)
    user = Text(256)
    safety_identifier = Text(256)
    service_tier = Choice("auto", "default")

    # They are shown in the answer.
    include = List(Text(64), 0, 32)
    metadata = ObjectOf(Text(512), 16)
    truncation = Choice("auto", "disabled")
    usage = usage_option()

    # Nothing is stored, whatever `store` is.
    store = Boolean()
    background = Constant(False)
