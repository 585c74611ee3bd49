"""The tools of a Responses request as the tools of a chat, and the names of functions back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ridges_proxy.web.schemas.response_tools import HOSTED_TOOLS, joined_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Tool = Mapping[str, Any]

FUNCTION_FIELDS = ("name", "description", "parameters", "strict")


class FunctionName(NamedTuple):
    """A function's name in its namespace."""

    name: str
    namespace: str | None = None


def functions_of(tools: Iterable[Tool]) -> dict[str, tuple[FunctionName, Tool]]:
    """The functions by the names that the model sees. Hosted tools are left out."""
    return {joined_name(name.namespace, name.name): (name, tool) for name, tool in _functions(tools)}


def tool_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a chat for the tools. Without a function there are none: no choice has a meaning then."""
    functions = functions_of(request.get("tools") or [])
    choice = request.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = {_chosen_name(tool) for tool in choice["tools"]}
        functions = {name: each for name, each in functions.items() if name in allowed}
        choice = choice["mode"]
    elif isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": _chosen_name(choice)}}
    if not functions:
        return {}
    tools = [_chat_tool(name, tool) for name, (_, tool) in functions.items()]
    fields = {
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": request.get("parallel_tool_calls"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _functions(tools: Iterable[Tool]) -> Iterator[tuple[FunctionName, Tool]]:
    for tool in tools:
        if tool["type"] in HOSTED_TOOLS:
            continue
        if tool["type"] == "namespace":
            for function in tool.get("tools") or []:
                yield FunctionName(function["name"], tool["name"]), function
        else:
            yield FunctionName(tool["name"]), tool


def _chat_tool(name: str, tool: Tool) -> dict[str, Any]:
    function = {field: tool[field] for field in FUNCTION_FIELDS if tool.get(field) is not None}
    return {"type": "function", "function": {**function, "name": name}}


def _chosen_name(tool: Tool) -> str:
    return joined_name(tool.get("namespace"), str(tool.get("name")))
