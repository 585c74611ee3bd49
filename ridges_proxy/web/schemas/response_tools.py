"""Types of the tools of `POST /v1/responses`, and of the choice among them."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat_messages import MessageObject, tagged
from ridges_proxy.web.schemas.containers import List
from ridges_proxy.web.schemas.field_table import RESPONSE_TOOL, Place
from ridges_proxy.web.schemas.tools import MAX_FUNCTION_NAME_CHARACTERS, MAX_TOOLS, Tool
from ridges_proxy.web.schemas.values import AnyObject, Boolean, Choice, String, Text, Value

HOSTED_TOOLS = frozenset(
    {"web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"}
)
"""Tools of OpenAI's servers that clients offer without being asked to. The model does not get to know them,
so it never calls them."""

TOOL_MESSAGE = (
    "Input should be a tool of the type function, or a namespace of such tools: custom tools, and tools that"
    " run on OpenAI's servers, are not available here"
)
CHOICE_MESSAGE = (
    "Input should be auto, none, required, a function, or allowed_tools: other tools are not available here"
)

NAME_SEPARATOR = "__"
"""Stands between a namespace and a function's name in the name that the model sees."""


def joined_name(namespace: str | None, name: str) -> str:
    """The name that the model sees for a function of a namespace."""
    if not namespace:
        return name
    return namespace + name if namespace.endswith(NAME_SEPARATOR) else namespace + NAME_SEPARATOR + name


class ResponseTool(Value):
    """A tool: a function, a namespace of functions, or a hosted tool, which is not offered to the model."""

    component = "ResponseTool"

    def __init__(self) -> None:
        self._any = Tool()
        functions = List(_function(), 0, MAX_TOOLS)
        self._kinds = {
            "function": _function(),
            "namespace": MessageObject(
                {
                    "type": Choice("namespace", required=True),
                    "name": Text(MAX_FUNCTION_NAME_CHARACTERS, required=True),
                    "description": String(),
                    "tools": functions,
                },
                RESPONSE_TOOL,
            ),
        }
        hosted = {
            "type": "object",
            "properties": {"type": {"enum": sorted(HOSTED_TOOLS)}},
            "required": ["type"],
        }
        super().__init__({"anyOf": [*(each.json_schema for each in self._kinds.values()), hosted]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A tool. The names that the model would see are checked, too."""
        tool = self._any.read(value)
        if isinstance(kind := tool.get("type"), str) and kind in HOSTED_TOOLS:
            return tool
        tool = tagged(self._kinds, tool, TOOL_MESSAGE)
        for index, function in enumerate(tool.get("tools") or []):
            try:
                self._any.read({"name": joined_name(tool["name"], function["name"])})
            except ValidationError as error:
                raise ValidationError({"tools": {index: error.messages}}) from None
        return tool


class ToolChoice(Value):
    """The choice of one function, or of some of the tools."""

    component = "ToolChoice"

    def __init__(self) -> None:
        self._kinds = {
            "function": _allowed(required=True),
            "allowed_tools": MessageObject(
                {
                    "type": Choice("allowed_tools", required=True),
                    "mode": Choice("auto", "required", required=True),
                    "tools": List(_allowed(), 1, MAX_TOOLS, required=True),
                },
                Place(),
            ),
        }
        super().__init__({"anyOf": [each.json_schema for each in self._kinds.values()]})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A choice."""
        return tagged(self._kinds, value, CHOICE_MESSAGE)


def _function() -> MessageObject:
    return MessageObject(
        {
            "type": Choice("function", required=True),
            "name": Text(MAX_FUNCTION_NAME_CHARACTERS, required=True),
            "description": String(),
            "parameters": AnyObject(),
            "strict": Boolean(),
        },
        RESPONSE_TOOL,
    )


def _allowed(*, required: bool = False) -> MessageObject:
    """A tool as a choice names it. Only a function is chosen by its name."""
    name = Text(MAX_FUNCTION_NAME_CHARACTERS, required=required)
    kind = Choice("function", required=True) if required else Text(64, required=True)
    return MessageObject(
        {"type": kind, "name": name, "namespace": Text(MAX_FUNCTION_NAME_CHARACTERS)}, Place()
    )
