"""Chat templates with the habits of known models' templates. None has a text of theirs.

Each template is a function that returns the pieces of a prompt: texts, and markers, which are one token each.
The general instructions have as many words as those of the template that is named.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Message = dict[str, Any]
Fields = dict[str, Any]


class Marker(str):
    """A special token."""

    __slots__ = ()


def instructions(tokens: int) -> str:
    """Return a text of so many tokens."""
    return " a" * tokens


def to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def parsed(messages: list[Message]) -> list[Message]:
    """Parse the arguments of tool calls, as engines do before a template sees them."""
    return [_with_parsed_calls(message) for message in messages]


def _with_parsed_calls(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def functions_of(fields: Fields) -> list[dict[str, Any]]:
    return [tool["function"] for tool in fields.get("tools", [])]


def calls_of(message: Message) -> list[dict[str, Any]]:
    return [call["function"] for call in message.get("tool_calls") or []]


def properties_of(function: dict[str, Any]) -> dict[str, Any]:
    return dict(function["parameters"]["properties"])


def text_of(message: Message) -> str:
    """Return the content as one text, as most engines join its parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["arguments"]
    return arguments if isinstance(arguments, dict) else {"value": arguments}


# --- templates ---------------------------------------------------------------------------------------------


def harmony(messages: list[Message], fields: Fields) -> Iterator[str]:
    """gpt-oss: tools as types; the name of the function last called before each tool message."""
    yield from (Marker("start"), "system", Marker("message"), instructions(90), Marker("end"))
    yield "namespace functions {\n"
    for function in functions_of(fields):
        yield f"// {function.get('description')}\ntype {function['name']} = (_: {{\n"
        for name, spec in properties_of(function).items():
            values = " | ".join(map(to_json, spec.get("enum", [])))
            yield f"// {spec.get('description')}\n{name}?: {values or spec.get('type')},\n"
        yield "}) => any;\n"
    called = None
    for message in messages:
        if message["role"] == "tool":
            yield from (Marker("start"), f"functions.{called} to=assistant", Marker("channel"), "commentary")
            yield from (Marker("message"), to_json(text_of(message)), Marker("end"))
            continue
        yield from (Marker("start"), message["role"], Marker("channel"), "final", Marker("message"))
        yield from (text_of(message), Marker("end"))
        for call in calls_of(message):
            called = call["name"]
            yield from (Marker("start"), f"assistant to=functions.{called}", Marker("channel"))
            yield from ("commentary json", Marker("message"), to_json(call["arguments"]), Marker("call"))
    yield from (Marker("start"), "assistant")


def hermes(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Hermes: the names of parameters, and types, in a signature, in its documentation and in a schema."""
    yield instructions(200) if fields.get("tools") else ""
    for function in functions_of(fields):
        properties = properties_of(function)
        signature = ", ".join(f"{name}: {spec.get('type')}" for name, spec in properties.items())
        yield f'{{"type": "function", "function": {{"name": "{function["name"]}", "description": "'
        yield f"{function['name']}({signature}) - {function.get('description')}\n\n    Args:\n"
        for name, spec in properties.items():
            yield f"        {name}({spec.get('type')}): {spec.get('description')}"
        yield f'", "parameters": {to_json(function["parameters"])}}}\n'
    for message in messages:
        yield from (Marker("im_start"), f"{message['role']}\n")
        if message["role"] == "tool":
            result = to_json({"name": message.get("name"), "content": text_of(message)})
            yield f"<tool_response>\n{result}\n</tool_response>"
        yield text_of(message) if message["role"] != "tool" else ""
        for call in calls_of(message):
            written = to_json({"name": call["name"], "arguments": call["arguments"]})
            yield f"\n<tool_call>\n{written}\n</tool_call>"
        yield from (Marker("im_end"), "\n")
    yield from (Marker("im_start"), "assistant\n")


def qwen_coder(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Qwen3-Coder: an XML element for each key of a tool and for each argument of a call."""
    yield instructions(400) if fields.get("tools") else ""
    for function in functions_of(fields):
        yield f"\n<function>\n<name>{function['name']}</name>\n<description>{function.get('description')}"
        yield "</description>\n<parameters>"
        for name, spec in properties_of(function).items():
            yield f"\n<parameter>\n<name>{name}</name>"
            for key, value in spec.items():
                yield f"\n<{key}>{value if isinstance(value, str) else to_json(value)}</{key}>"
            yield "\n</parameter>"
        for key, value in function["parameters"].items():
            yield f"\n<{key}>{to_json(value)}</{key}>" if key not in {"type", "properties"} else ""
        yield "\n</parameters>\n</function>"
    for message in messages:
        yield from (Marker("im_start"), f"{message['role']}\n")
        yield f"<tool_response>\n{text_of(message)}\n</tool_response>\n"
        for call in calls_of(message):
            yield f"\n<tool_call>\n<function={call['name']}>\n"
            for key, value in arguments_of(call).items():
                text = to_json(value) if isinstance(value, dict | list) else str(value)
                yield f"<parameter={key}>\n{text}\n</parameter>\n"
            yield "</function>\n</tool_call>"
        yield from (Marker("im_end"), "\n")
    yield from (Marker("im_start"), "assistant\n")


def kimi(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Kimi K2 and K3: names as escaped attributes, of tool messages too; ids of calls; an index."""
    yield from (Marker("open"), 'message role="system"', Marker("sep"), instructions(60), Marker("close"))
    yield to_json(fields["tools"]) if fields.get("tools") else ""
    called = "none"
    for message in messages:
        attributes = f" name={quoteattr(message['name'])}" if message.get("name") else ""
        if message["role"] == "tool":
            attributes = f' tool={quoteattr(called)} index="1"'
        yield from (Marker("open"), f'message role="{message["role"]}"{attributes}', Marker("sep"))
        yield from (f"## {message.get('tool_call_id', '')}\n", Marker("open"), "response", Marker("sep"))
        yield from (text_of(message), Marker("close"), "response", Marker("sep"))
        for call, function in zip(message.get("tool_calls") or [], calls_of(message), strict=True):
            called = function["name"]
            yield from (Marker("open"), f'call tool={quoteattr(called)} index="1"', Marker("sep"), call["id"])
            for key, value in arguments_of(function).items():
                yield from (Marker("open"), f'argument key={quoteattr(key)} type="boolean"', Marker("sep"))
                yield value if isinstance(value, str) else to_json(value)
                yield from (Marker("close"), "argument", Marker("sep"))
            yield from (Marker("close"), "call", Marker("sep"))
        yield from (Marker("close"), "message", Marker("sep"), Marker("end"))
    yield from (Marker("open"), 'message role="assistant"', Marker("sep"), Marker("open"), "think")


def kimi_types(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Kimi K2.5: tools as types; each line of a description is a comment, indented."""
    for function in functions_of(fields):
        yield from _comment(function.get("description"), "")
        yield f"type {function['name']} = (_: {{\n"
        yield from _typed_properties(function["parameters"], "  ")
        yield "}) => any;\n"
    for message in messages:
        yield from (Marker(message["role"]), message["role"], Marker("middle"), text_of(message))
        for call in message.get("tool_calls") or []:
            yield from (
                Marker("call"),
                call["id"],
                Marker("argument"),
                to_json(call["function"]["arguments"]),
            )
        yield Marker("end")


def _typed_properties(schema: dict[str, Any], indent: str) -> Iterator[str]:
    for name, spec in schema.get("properties", {}).items():
        yield from _comment(spec.get("description"), indent)
        yield f"{indent}// Default: {to_json(spec['default'])}\n" if "default" in spec else ""
        yield f"{indent}{name}?: "
        if "properties" in spec:
            yield from ("{\n", *_typed_properties(spec, indent + "  "), f"{indent}}},\n")
        else:
            yield f"{' | '.join(map(to_json, spec.get('enum', []))) or spec.get('type')},\n"


def _comment(text: str | None, indent: str) -> Iterator[str]:
    yield from (f"{indent}// {line}\n" if line else "\n" for line in (text or "").split("\n"))


def glm(messages: list[Message], fields: Fields) -> Iterator[str]:
    """GLM: each part of a tool message as Python writes it; a switch behind each user message."""
    yield instructions(150) if fields.get("tools") else ""
    for tool in fields.get("tools", []):
        yield f"{to_json(tool)}\n"
    for message in messages:
        yield from (Marker(message["role"]), "\n")
        content = message.get("content")
        if message["role"] == "tool" and isinstance(content, str):
            content = [{"type": "text", "text": content}]  # as some engines pass it on
        if isinstance(content, list):
            yield from (f"\n<tool_response>\n{part}\n</tool_response>" for part in content if "text" in part)
        else:
            yield f"{text_of(message)}/nothink"
        yield from ("\n", Marker("think"), str(message.get("reasoning_content") or ""), Marker("/think"))
        for call in calls_of(message):
            yield from ("\n", Marker("tool_call"), call["name"], "\n")
            for key, value in arguments_of(call).items():
                text = value if isinstance(value, str) else to_json(value)
                yield f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n"
            yield Marker("/tool_call")
    yield from (Marker("assistant"), "\n", Marker("think"))


def mistral(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Mistral: the tools at each user message that equals the last one; the ends of ids; a default text."""
    users = [message for message in messages if message["role"] == "user"]
    yield from (Marker("SYSTEM"), instructions(200), Marker("/SYSTEM"))
    yield instructions(110) if fields.get("tools") else ""
    for message in messages:
        if fields.get("tools") and users and message == users[-1]:
            yield from (Marker("TOOLS"), to_json(fields["tools"]), Marker("/TOOLS"))
        if message["role"] == "tool":
            call_id = str(message.get("tool_call_id"))[-9:]
            yield f'{{"content": {message.get("content")}, "call_id": "{call_id}"}}'
            continue
        yield from (Marker("INST"), text_of(message), Marker("/INST"))
        for call in message.get("tool_calls") or []:
            yield from (Marker("CALLS"), to_json(call["function"])[:-1], f', "id": "{call["id"][-9:]}"}}')


def llama(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Llama 3 and 4: indented tools, names and descriptions once more; arguments as Python writes them."""
    yield instructions(560) if fields.get("tools") else instructions(40)
    for tool in fields.get("tools", []):
        function = tool["function"]
        yield f"Use '{function['name']}' to '{function.get('description')}':\n{to_json(tool, 4)}\n\n"
    for message in messages:
        yield from (Marker("header"), message["role"], Marker("/header"), "\n\n")
        yield to_json(text_of(message)) if message["role"] == "tool" else text_of(message)
        for call in calls_of(message):
            arguments = ", ".join(f'{key}="{value}"' for key, value in arguments_of(call).items())
            yield f"[{call['name']}({arguments})]"
        yield Marker("eot")
    yield from (Marker("header"), "assistant", Marker("/header"), "\n\n")


def deepseek(messages: list[Message], fields: Fields) -> Iterator[str]:
    """DeepSeek V3.2: tools and response format at each developer message; an element for each argument."""
    shared = instructions(330) + "".join(f"\n{to_json(each)}" for each in functions_of(fields))
    shared = shared if fields.get("tools") else ""
    shared += f"\n\n{to_json(fields['response_format'])}" if fields.get("response_format") else ""
    yield Marker("begin")
    yield shared if messages[0]["role"] != "developer" else ""
    for message in messages:
        yield shared if message["role"] == "developer" else ""
        yield from (Marker(message["role"]), f"\n<result>{text_of(message)}</result>", Marker("think"))
        yield str(message.get("reasoning_content") or "")
        for call in calls_of(message):
            yield from ("\n<", Marker("DSML"), f'invoke name="{call["name"]}">\n')
            for key, value in arguments_of(call).items():
                text = value if isinstance(value, str) else to_json(value)
                yield from ("<", Marker("DSML"), f'parameter name="{key}" string="true">{text}</')
                yield from (Marker("DSML"), "parameter>\n")
            yield from ("</", Marker("DSML"), "invoke>\n")
        yield Marker("end")


def gemma(messages: list[Message], fields: Fields) -> Iterator[str]:
    """Gemma 4: markers around each string; the results of tools under the name of the called function."""
    for function in functions_of(fields):
        yield f"declaration:{function['name']}{{description:"
        yield from _marked(function)
        yield "}"
    names: dict[str, str] = {}
    for message in messages:
        names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or []}
        if message["role"] == "tool":
            yield from (Marker("tool_response"), f"response:{names.get(message.get('tool_call_id', ''))}")
            yield from ("{value:", *_marked(text_of(message)), "}", Marker("tool_response"))
            continue
        yield from (Marker("turn"), f"{message['role']}\n", text_of(message))
        for call in calls_of(message):
            yield from (Marker("tool_call"), f"call:{call['name']}{{", *_marked(call["arguments"]), "}")
            yield Marker("tool_call")
        yield from (Marker("turn"), "\n")


def _marked(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from (Marker('"'), value, Marker('"'))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (Marker('"'), key, Marker('"'), ":", *_marked(each), ",")
    elif isinstance(value, list):
        for each in value:
            yield from (*_marked(each), ",")
    else:
        yield to_json(value)


TEMPLATES: dict[str, Callable[[list[Message], Fields], Iterator[str]]] = {
    each.__name__: each
    for each in (harmony, hermes, qwen_coder, kimi, kimi_types, glm, mistral, llama, deepseek, gemma)
}
