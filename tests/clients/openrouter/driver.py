"""OpenRouter's SDK, which the platform recommends to its agents, on `/api/v1`."""

import json
from typing import Any

from openrouter import OpenRouter
from serve import Ask, serve

SCHEMA = {
    "type": "object",
    "properties": {"call": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["call", "text"],
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "search")
]


def client_of(ask: Ask) -> OpenRouter:
    return OpenRouter(api_key=ask.key, server_url=ask.base_url.removesuffix("/v1") + "/api/v1")


def complete(ask: Ask, messages: list[Any], **more: Any) -> Any:
    if ask.retries is not None:
        more["retries"] = None  # by default it repeats a 5xx for an hour
    return client_of(ask).chat.send(messages=messages, model=ask.model, http_headers=ask.headers, **more)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": complete(ask, [user(ask.prompt)]).choices[0].message.content}


def stream(ask: Ask) -> dict[str, Any]:
    with complete(ask, [user(ask.prompt)], stream=True) as events:
        return {"pieces": [event.choices[0].delta.content or "" for event in events]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = complete(ask, [user(ask.prompt)])
    with complete(ask, [user(ask.prompt)], stream=True, stream_options={"include_usage": True}) as events:
        *_, last = events
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def with_results(ask: Ask, message: Any, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Send the message back, with a result for each of its calls: an id, a name and arguments."""
    results = [{"role": "tool", "tool_call_id": number, "content": "done"} for number, _, _ in calls]
    answer = complete(ask, [user(ask.prompt), message, *results], tools=TOOLS)
    called = [[name, json.loads(arguments)] for _, name, arguments in calls]
    return {"calls": called, "text": answer.choices[0].message.content}


def tools(ask: Ask) -> dict[str, Any]:
    message = complete(ask, [user(ask.prompt)], tools=TOOLS).choices[0].message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    return with_results(ask, message, calls)


def parallel_tools(ask: Ask) -> dict[str, Any]:
    """Join the pieces of the calls: this client has no function for it."""
    calls: dict[int, list[str]] = {}
    with complete(ask, [user(ask.prompt)], tools=TOOLS, parallel_tool_calls=True, stream=True) as events:
        pieces = [piece for event in events for piece in event.choices[0].delta.tool_calls or []]
    for piece in pieces:
        call = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
        call[2] += piece.function.arguments
    called = [
        {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, name, arguments in calls.values()
    ]
    message = {"role": "assistant", "content": None, "tool_calls": called}
    return with_results(ask, message, [(number, name, text) for number, name, text in calls.values()])


def structured(ask: Ask) -> dict[str, Any]:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA, "strict": True}}
    answer = complete(ask, [user(ask.prompt)], response_format=schema)
    return {"value": json.loads(answer.choices[0].message.content)}


def echo(ask: Ask) -> dict[str, Any]:
    first = complete(ask, [user(ask.prompt)]).choices[0].message
    return {"text": complete(ask, [user(ask.prompt), first, user("go on")]).choices[0].message.content}


def embeddings(ask: Ask) -> dict[str, Any]:
    answer = client_of(ask).embeddings.generate(
        model=ask.embedding_model, input=["one", "two"], http_headers=ask.headers
    )
    return {"sizes": [len(each.embedding) for each in answer.data]}


def cancel(ask: Ask) -> dict[str, Any]:
    with complete(ask, [user(ask.prompt)], stream=True) as events:
        next(events)
    return {}


serve(
    "openrouter",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
    embeddings=embeddings,
    cancel=cancel,
)
