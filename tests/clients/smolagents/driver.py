"""smolagents: its model class for servers that speak OpenAI's API."""

import json
from typing import Any

from serve import Ask, serve
from smolagents import ChatMessage, OpenAIServerModel, tool
from smolagents.models import agglomerate_stream_deltas

SCHEMA = {
    "type": "object",
    "properties": {"call": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["call", "text"],
}


@tool
def look(call: int, text: str) -> str:
    """Look something up.

    Args:
        call: a number
        text: a text
    """
    return f"{call} {text}"


@tool
def search(call: int, text: str) -> str:
    """Search for something.

    Args:
        call: a number
        text: a text
    """
    return f"{call} {text}"


TOOLS = [look, search]


def model_of(ask: Ask) -> OpenAIServerModel:
    options: dict[str, Any] = {"default_headers": ask.headers}
    if ask.retries is not None:
        options["max_retries"] = ask.retries
    return OpenAIServerModel(ask.model, ask.base_url, api_key=ask.key, client_kwargs=options)


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=[{"type": "text", "text": text}])


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": model_of(ask).generate([user(ask.prompt)]).content}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [delta.content or "" for delta in model_of(ask).generate_stream([user(ask.prompt)])]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = model_of(ask).generate([user(ask.prompt)])
    streamed = agglomerate_stream_deltas(list(model_of(ask).generate_stream([user(ask.prompt)])))
    counts = [each.token_usage for each in (whole, streamed)]
    return {"usage": [[count.input_tokens, count.output_tokens] for count in counts]}


def with_results(ask: Ask, message: Any) -> dict[str, Any]:
    """Send the message back as its agents do: the calls and the results as texts."""
    called = [[call.function.name, arguments_of(call)] for call in message.tool_calls]
    answers = [ChatMessage(role="assistant", content=[{"type": "text", "text": json.dumps(called)}])]
    answer = model_of(ask).generate([user(ask.prompt), *answers, user("done")], tools_to_call_from=TOOLS)
    return {"calls": called, "text": answer.content}


def arguments_of(call: Any) -> Any:
    arguments = call.function.arguments
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def tools(ask: Ask) -> dict[str, Any]:
    return with_results(ask, model_of(ask).generate([user(ask.prompt)], tools_to_call_from=TOOLS))


def parallel_tools(ask: Ask) -> dict[str, Any]:
    deltas = list(model_of(ask).generate_stream([user(ask.prompt)], tools_to_call_from=TOOLS))
    return with_results(ask, agglomerate_stream_deltas(deltas))


def structured(ask: Ask) -> dict[str, Any]:
    schema = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA, "strict": True}}
    return {"value": json.loads(model_of(ask).generate([user(ask.prompt)], response_format=schema).content)}


def echo(ask: Ask) -> dict[str, Any]:
    first = model_of(ask).generate([user(ask.prompt)])
    return {"text": model_of(ask).generate([user(ask.prompt), first, user("go on")]).content}


serve(
    "smolagents",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
)
