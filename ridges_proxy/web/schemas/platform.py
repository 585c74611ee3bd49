"""Schemas of the platform's later contract on `/api`, in which `evaluation_run_id` names the run.

Its tools have a flat list of parameters. They go upstream as function tools with a JSON Schema, and the
arguments of a tool call come back as a list, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from ridges_proxy.errors import InvalidRequestError, Problem
from ridges_proxy.web.schemas.agents import NULL_LIST, NULL_STRING, AgentMessage, AgentSchema, Temperature
from ridges_proxy.web.schemas.chat_messages import MessageList
from ridges_proxy.web.schemas.containers import List, Object
from ridges_proxy.web.schemas.field_table import LATER, LATER_PARAMETER, LATER_TOOL, Place
from ridges_proxy.web.schemas.tools import MAX_TOOLS, FunctionName
from ridges_proxy.web.schemas.values import Boolean, Choice, Name, RunId, String, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.upstream import AnswerMessage

RUN_FIELD = "evaluation_run_id"
"""A body or query with this field has the later form."""

MAX_PARAMETERS = 256
"""Of one tool. The longest known list has 20."""

TYPES = ("boolean", "integer", "number", "string", "array", "object")
NO_TOOLS, AUTO, REQUIRED = "none", "auto", "required"

TOOLS_WITHOUT_MODE = "Input should be empty where tool_mode is none, which is the default"
MODE_WITHOUT_TOOLS = "Input should have at least 1 tool where tool_mode is required"

RAW_ARGUMENTS = "__raw__"
"""Name of the one argument that stands for arguments that are no JSON object. Its value is their text. The
platform's gateway drops them, but they are paid for; its own client for miners gives them this name."""


class LaterSchema(AgentSchema):
    """Base class of the later form's schemas."""

    place: ClassVar[Place] = LATER


class LaterUsageSchema(LaterSchema):
    """The query of `GET /api/usage` with `evaluation_run_id`."""

    evaluation_run_id = RunId(required=True, error_messages=NULL_STRING)


class LaterEmbeddingSchema(LaterSchema):
    """`POST /api/embedding` with `evaluation_run_id`."""

    evaluation_run_id = RunId(required=True, error_messages=NULL_STRING)
    input = String(required=True, error_messages=NULL_STRING)


class LaterInferenceSchema(LaterSchema):
    """`POST /api/inference` with `evaluation_run_id`."""

    evaluation_run_id = RunId(required=True, error_messages=NULL_STRING)
    messages = MessageList(AgentMessage(), required=True, error_messages=NULL_LIST)
    model = Name(load_default=None)
    temperature = Temperature(load_default=None)
    tool_mode = Choice(NO_TOOLS, AUTO, REQUIRED, load_default=NO_TOOLS)
    tools = List(
        Object(
            {
                "name": FunctionName(required=True),
                "description": String(),
                "parameters": List(
                    Object(
                        {
                            "name": Text(256, required=True),
                            "type": Choice(*TYPES, required=True),
                            "description": String(),
                            "required": Boolean(),
                        },
                        LATER_PARAMETER,
                    ),
                    0,
                    MAX_PARAMETERS,
                ),
            },
            LATER_TOOL,
        ),
        0,
        MAX_TOOLS,
        load_default=None,
    )


def tool_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream's fields for the tools of a request. Without tools, there are none.

    Raises InvalidRequestError if the tools do not fit the mode.
    """
    mode, tools = fields["tool_mode"] or NO_TOOLS, fields["tools"]
    if tools and mode == NO_TOOLS:
        raise InvalidRequestError([Problem(["body", "tools"], TOOLS_WITHOUT_MODE, "value_error")])
    if not tools:
        if mode == REQUIRED:
            raise InvalidRequestError([Problem(["body", "tools"], MODE_WITHOUT_TOOLS, "value_error")])
        return {}
    return {"tools": [_function_tool(tool) for tool in tools], "tool_choice": mode}


def _function_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in OpenAI's form. If a parameter's name occurs twice, the last one counts."""
    parameters = {each["name"]: each for each in tool.get("parameters") or []}
    schema = {
        "type": "object",
        "properties": {name: _property(each) for name, each in parameters.items()},
        "required": [name for name, each in parameters.items() if each.get("required")],
    }
    function = {"name": tool["name"], "description": tool.get("description") or "", "parameters": schema}
    return {"type": "function", "function": function}


def _property(parameter: Mapping[str, Any]) -> dict[str, str]:
    return {"type": parameter["type"], "description": parameter.get("description") or ""}


def message_json(message: AnswerMessage) -> dict[str, Any]:
    """A message in the platform's form."""
    calls = [{"name": each.name, "arguments": _arguments(each.arguments)} for each in message.tool_calls]
    return {"content": message.content, "tool_calls": calls}


def _arguments(text: str) -> list[dict[str, Any]]:
    """The arguments of a tool call as a list. Without parameters, models write an object, null or nothing."""
    try:
        value = orjson.loads(text) if text.strip() else None
        if value is None:
            return []
        if isinstance(value, dict):
            # Serialized here, because orjson parses deeper nesting than it serializes.
            return [{"name": name, "value": _fragment(each)} for name, each in value.items()]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    return [{"name": RAW_ARGUMENTS, "value": text}]


def _fragment(value: object) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(value))
